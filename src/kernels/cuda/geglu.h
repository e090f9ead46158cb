#pragma once
#include <cstdint>

#include "kernels/cuda/types.h"

namespace gato::kernels::cuda {

/// y = gelu(gate) value, GELU in its exact form. Rows of `x` hold `half` columns of the gate, then `half` of the value.
/// Dense arrays on the device.
struct GegluForward {
  Element element = Element::kFloat32;  ///< Of both arrays: kFloat32 or kBFloat16.
  int64_t rows = 0, half = 0;
  const void* x = nullptr;  ///< [rows, 2 half]
  void* y = nullptr;        ///< [rows, half]
};
void geglu_forward(const GegluForward& call, Stream stream);

struct GegluBackward {
  Element element = Element::kFloat32;
  int64_t rows = 0, half = 0;
  const void* x = nullptr;           ///< [rows, 2 half]
  const void* y_gradient = nullptr;  ///< [rows, half]
  void* x_gradient = nullptr;        ///< [rows, 2 half]; may be `x`.
};
void geglu_backward(const GegluBackward& call, Stream stream);

}  // namespace gato::kernels::cuda
