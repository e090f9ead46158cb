#include "kernels/graph.h"

#include <ATen/ops/empty.h>
#include <c10/core/GradMode.h>

namespace gato::kernels {

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
  context->saved_data[name] = parameter.value;
  context->saved_data[name + "'"] = parameter.gradient;
}

Parameter saved_parameter(AutogradContext* context, const std::string& name) {
  return {context->saved_data[name].toTensor(), context->saved_data[name + "'"].toTensor()};
}

}  // namespace gato::kernels
