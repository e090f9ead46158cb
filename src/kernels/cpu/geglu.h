#pragma once
#include <cstdint>

#include "kernels/cpu/lanes.h"

namespace gato::kernels::cpu {

/// Rows [begin, end) of y = gelu(gate) value; `x` [rows, 2 half] holds gate, then value; `y` [rows, half].
void geglu_forward(const float* x, float* y, int64_t half, int64_t begin, int64_t end);
void geglu_forward(const Bf16* x, Bf16* y, int64_t half, int64_t begin, int64_t end);

void geglu_backward(const float* x, const float* y_gradient, float* x_gradient, int64_t half, int64_t begin,
                    int64_t end);
void geglu_backward(const Bf16* x, const Bf16* y_gradient, Bf16* x_gradient, int64_t half, int64_t begin, int64_t end);

}  // namespace gato::kernels::cpu
