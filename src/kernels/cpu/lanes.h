#pragma once
#include <cstdint>

namespace gato::kernels::cpu {

constexpr int64_t kLanes = 16;  ///< Floats per vector: buffers for vector code are padded to multiples of it.

/// A bfloat16 number: the upper half of a float's bits. LibTorch's at::BFloat16 has the same layout.
struct Bf16 {
  uint16_t bits;
};

constexpr int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

}  // namespace gato::kernels::cpu
