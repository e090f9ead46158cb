#pragma once
#include <cstdint>

#include "kernels/cuda/types.h"

namespace gato::emulator_tests {

/// One warp's mma of zero: a [32, 4], b [32, 2] and d [32, 4] hold each lane's registers; d is replaced.
void run_mma(kernels::cuda::Element element, const uint32_t* a, const uint32_t* b, float* d);

/// One warp's ldmatrix of `count` matrices out of `rows` [32, 8]: lane i takes row i, result [32, count].
void run_ldmatrix(int count, bool transposed, const uint16_t* rows, uint32_t* result);

/// out [n]: in [n] through fp32, rounded to the element type and back.
void run_round(kernels::cuda::Element element, const float* in, float* out, int n);

}  // namespace gato::emulator_tests
