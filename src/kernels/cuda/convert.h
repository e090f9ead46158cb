#pragma once
#include <cstdint>

#include "kernels/cuda/types.h"

namespace gato::kernels::cuda {

/// to = from, rounded to nearest even; NaN stays NaN. Dense arrays on the device of different types: every pair of
/// float32, bfloat16 and float16.
struct Conversion {
  int64_t count = 0;
  Element from_element = Element::kFloat32;
  const void* from = nullptr;
  Element to_element = Element::kBFloat16;
  void* to = nullptr;
};
void convert(const Conversion& call, Stream stream);

}  // namespace gato::kernels::cuda
