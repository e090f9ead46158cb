#pragma once
#include <cstdint>

namespace gato::kernels::cpu {

/// Rows [begin, end) of y = gelu(gate) value; `x` [rows, 2 half] holds gate, then value; `y` [rows, half].
void geglu_forward(const float* x, float* y, int64_t half, int64_t begin, int64_t end);
void geglu_backward(const float* x, const float* y_gradient, float* x_gradient, int64_t half, int64_t begin,
                    int64_t end);

}  // namespace gato::kernels::cpu
