#include "gato/kernels/linear.h"

#include <ATen/ops/empty.h>

#include "gato/core/error.h"
#include "gato/core/profile.h"
#include "kernels/checks.h"
#include "kernels/column_sums.h"
#include "kernels/cpu/rows.h"
#include "kernels/data.h"
#include "kernels/device_ops.h"
#include "kernels/graph.h"
#include "kernels/parallel.h"

namespace gato::kernels {
namespace {

/// The weight in the type of the activations.
const at::Tensor& operand(const Parameter& weight, const at::Tensor& x) {
  return x.scalar_type() == at::kBFloat16 ? weight.compute : weight.value;
}

/// The weight in a type that it has: for what is the same in both.
const at::Tensor& either(const Parameter& weight) { return weight.value.defined() ? weight.value : weight.compute; }

void check_weight(const Parameter& weight) {
  if (weight.value.defined()) return check_parameter(weight, "weight", {-1, -1});
  check_tensor(weight.compute, "weight", at::kBFloat16, {-1, -1});
  if (weight.gradient.defined()) check_tensor(weight.gradient, "weight", at::kFloat, {-1, -1});
}

void fill_with(const at::Tensor& bias, const at::Tensor& y) {
  if (const DeviceOps* ops = device_ops(y)) return ops->fill_rows(bias, y);
  const auto* from = bias.const_data_ptr<float>();
  const int64_t width = y.size(1);
  with_type_of(y, [&]<class T>(T) {
    T* to = mutable_data<T>(y);
    for_ranges(y.size(0), width / 4, [&](int64_t begin, int64_t end) { cpu::fill_rows(from, width, to, begin, end); });
  });
}

struct LinearFunction : torch::autograd::Function<LinearFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const std::optional<at::Tensor>& /*anchor*/,
                            const Parameter& weight, const Parameter& bias) {
    context->save_for_backward({x});
    save_parameter(context, "weight", weight);
    save_parameter(context, "bias", bias);
    const profile::Scope scope(weight.name, " forward");
    at::Tensor y = at::empty({x.size(0), either(weight).size(0)}, x.options());
    if (bias.defined()) fill_with(bias.value, y);
    matmul_into(x, operand(weight, x).t(), y, bias.defined() ? 1.0f : 0.0f);
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const at::Tensor x = context->get_saved_variables()[0];
    const Parameter weight = saved_parameter(context, "weight");
    const Parameter bias = saved_parameter(context, "bias");
    const at::Tensor dy = gradients[0].contiguous();
    at::Tensor dx;
    if (context->needs_input_grad(0)) {
      const profile::Scope scope(weight.name, " backward, input");
      dx = at::empty(x.sizes(), x.options());
      matmul_into(dy, operand(weight, x), dx, 0);
    }
    if (weight.gradient.defined()) {
      const profile::Scope scope(weight.name, " backward, weight");
      matmul_into(dy.t(), x, weight.gradient, 1);
    }
    if (bias.gradient.defined()) {
      const profile::Scope scope("bias backward");
      add_column_sums(dy, bias.gradient);
    }
    return {dx, {}, {}, {}};
  }
};

}  // namespace

at::Tensor linear(const at::Tensor& x, const Parameter& weight, const Parameter& bias) {
  check_weight(weight);
  check_activation(x, "x", {-1, either(weight).size(1)});
  GATO_CHECK(x.scalar_type() == at::kFloat || weight.compute.defined(),
             "x is bf16, but the weight has no bf16 copy (Parameter::compute)");
  GATO_CHECK(x.scalar_type() == at::kBFloat16 || weight.value.defined(),
             "x is fp32, but of the weight there is only the bf16 copy (Parameter::compute)");
  if (bias.defined()) check_parameter(bias, "bias", {either(weight).size(0)});
  check_same_device(x, {{"weight", &either(weight)}, {"gradient", &weight.gradient}, {"bias", &bias.value}});
  return LinearFunction::apply(x, graph_anchor({&weight, &bias}), weight, bias);
}

}  // namespace gato::kernels
