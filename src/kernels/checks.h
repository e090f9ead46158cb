#pragma once
#include <ATen/core/Tensor.h>

#include <initializer_list>
#include <utility>

#include "gato/kernels/parameter.h"

namespace gato::kernels {

/// Throws ContractError naming `name`, what was expected and what came, unless `x` is dense, on the CPU or a device
/// whose operations are loaded, of `dtype` and of the given sizes (-1: any).
void check_tensor(const at::Tensor& x, const char* name, at::ScalarType dtype, std::initializer_list<int64_t> sizes);

/// Throws ContractError unless those that are defined lie on x's device.
void check_same_device(const at::Tensor& x, std::initializer_list<std::pair<const char*, const at::Tensor*>> others);

/// check_tensor for fp32 or bf16.
void check_activation(const at::Tensor& x, const char* name, std::initializer_list<int64_t> sizes);

/// The same for fp32 and for both members of a parameter (its gradient may be undefined).
void check_parameter(const Parameter& x, const char* name, std::initializer_list<int64_t> sizes);

}  // namespace gato::kernels
