#include "kernels/graph.h"

#include <ATen/core/ivalue.h>
#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>
#include <torch/custom_class.h>

#include <utility>

namespace gato::kernels {
namespace {

struct SavedParameter : torch::CustomClassHolder {
  explicit SavedParameter(Parameter p) : parameter(std::move(p)) {}
  Parameter parameter;
};

}  // namespace

std::optional<at::Tensor> graph_anchor(std::initializer_list<const Parameter*> parameters) {
  if (!c10::GradMode::is_enabled()) return std::nullopt;
  for (const Parameter* parameter : parameters) {
    if (parameter->gradient.defined()) {
      at::Tensor anchor = at::empty({0}, at::kFloat);
      anchor.set_requires_grad(true);
      return anchor;
    }
  }
  return std::nullopt;
}

void save_parameter(AutogradContext* context, const std::string& name, const Parameter& parameter) {
  context->saved_data[name] = c10::IValue::make_capsule(c10::make_intrusive<SavedParameter>(parameter));
}

Parameter saved_parameter(AutogradContext* context, const std::string& name) {
  return static_cast<const SavedParameter&>(*context->saved_data.at(name).toCapsule()).parameter;
}

}  // namespace gato::kernels
