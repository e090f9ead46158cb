#pragma once
#include <ATen/core/Tensor.h>
#include <torch/csrc/autograd/custom_function.h>

#include <initializer_list>
#include <optional>
#include <string>

#include "gato/kernels/parameter.h"

namespace gato::kernels {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// A leaf that requires grad when gradients are recorded and one of the parameters has one; otherwise nothing. As an
/// additional input it makes LibTorch record an operation whose other inputs do not require grad.
[[nodiscard]] std::optional<at::Tensor> graph_anchor(std::initializer_list<const Parameter*> parameters);

/// Tensors that may be undefined must be handed to a Function as optionals.
[[nodiscard]] inline std::optional<at::Tensor> optional_tensor(const at::Tensor& x) {
  return x.defined() ? std::optional<at::Tensor>(x) : std::nullopt;
}

/// Keeps a parameter for backward. Not by save_for_backward: values are updated in place between steps, on purpose.
void save_parameter(AutogradContext* context, const std::string& name, const Parameter& parameter);
[[nodiscard]] Parameter saved_parameter(AutogradContext* context, const std::string& name);

}  // namespace gato::kernels
