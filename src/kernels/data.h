#pragma once
#include <ATen/core/Tensor.h>

#include <type_traits>

#include "kernels/cpu/lanes.h"

namespace gato::kernels {

/// The elements of a dense fp32 or bf16 tensor, for T float or cpu::Bf16.
template <class T>
[[nodiscard]] const T* data(const at::Tensor& x) {
  if constexpr (std::is_same_v<T, cpu::Bf16>) {
    static_assert(sizeof(at::BFloat16) == sizeof(cpu::Bf16));
    return reinterpret_cast<const cpu::Bf16*>(x.const_data_ptr<at::BFloat16>());
  } else {
    return x.const_data_ptr<T>();
  }
}
template <class T>
[[nodiscard]] T* mutable_data(const at::Tensor& x) {
  if constexpr (std::is_same_v<T, cpu::Bf16>) {
    return reinterpret_cast<cpu::Bf16*>(x.mutable_data_ptr<at::BFloat16>());
  } else {
    return x.mutable_data_ptr<T>();
  }
}
/// Null for an undefined tensor.
template <class T>
[[nodiscard]] const T* data_or_null(const at::Tensor& x) {
  return x.defined() ? data<T>(x) : nullptr;
}

/// Calls body(T{}) for the type of `x`, which must be fp32 or bf16.
template <class Body>
void with_type_of(const at::Tensor& x, const Body& body) {
  if (x.scalar_type() == at::kBFloat16) {
    body(cpu::Bf16{});
  } else {
    body(float{});
  }
}

}  // namespace gato::kernels
