#pragma once
#include <cstdint>

namespace gato::kernels::cpu {

/// y[row, :] = bias for rows [begin, end).
void fill_rows(const float* bias, int64_t width, float* y, int64_t begin, int64_t end);

/// y += x, n elements.
void add(const float* x, float* y, int64_t n);

/// totals[:] += sum of rows [begin, end) of `x`.
void add_column_sums(const float* x, int64_t width, float* totals, int64_t begin, int64_t end);

}  // namespace gato::kernels::cpu
