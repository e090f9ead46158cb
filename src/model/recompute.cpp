#include "model/recompute.h"

#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include <optional>

#include "gato/core/profile.h"

namespace gato::model {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct SavedBlock : torch::CustomClassHolder {
  explicit SavedBlock(BlockFunction f) : block(std::move(f)) {}
  BlockFunction block;
};

/// The input as a leaf of the graph that backward records.
at::Tensor leaf_of(const at::Tensor& x) { return x.defined() ? x.detach().set_requires_grad(true) : at::Tensor(); }

struct RecomputeFunction : torch::autograd::Function<RecomputeFunction> {
  static variable_list forward(AutogradContext* context, const at::Tensor& x, const std::optional<at::Tensor>& delta,
                               const at::Tensor& /*anchor*/, const BlockFunction& block) {
    const at::Tensor added = delta.value_or(at::Tensor());
    context->save_for_backward({x, added});
    context->saved_data["block"] = c10::IValue::make_capsule(c10::make_intrusive<SavedBlock>(block));
    const auto [stream, out] = block(x, added);  // nothing is recorded inside a Function
    return {stream, out};
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto holder = context->saved_data.at("block").toCapsule();
    const at::Tensor x = leaf_of(saved[0]), delta = leaf_of(saved[1]);
    variable_list outputs;
    {
      const profile::Scope scope("recomputation");
      const c10::AutoGradMode on(true);
      const auto [stream, out] = static_cast<const SavedBlock&>(*holder).block(x, delta);
      outputs = {stream, out};
    }
    torch::autograd::backward(outputs, gradients);
    return {x.grad(), delta.defined() ? delta.grad() : at::Tensor(), {}, {}};
  }
};

}  // namespace

std::pair<at::Tensor, at::Tensor> recomputed(BlockFunction block, const at::Tensor& x, const at::Tensor& delta) {
  // Makes LibTorch record the block even where no input requires grad: its parameters have gradients.
  const at::Tensor anchor = at::empty({0}, at::kFloat).set_requires_grad(true);
  const variable_list outputs = RecomputeFunction::apply(
      x, delta.defined() ? std::optional<at::Tensor>(delta) : std::nullopt, anchor, std::move(block));
  return {outputs[0], outputs[1]};
}

}  // namespace gato::model
