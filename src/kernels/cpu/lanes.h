#pragma once
#include <cstdint>

namespace gato::kernels::cpu {

constexpr int64_t kLanes = 16;  ///< Floats per vector: buffers for vector code are padded to multiples of it.

constexpr int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

}  // namespace gato::kernels::cpu
