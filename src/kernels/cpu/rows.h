#pragma once
#include <cstdint>

#include "kernels/cpu/lanes.h"

namespace gato::kernels::cpu {

/// y[row, :] = bias for rows [begin, end).
void fill_rows(const float* bias, int64_t width, float* y, int64_t begin, int64_t end);
void fill_rows(const float* bias, int64_t width, Bf16* y, int64_t begin, int64_t end);

/// y += x, n elements.
void add(const float* x, float* y, int64_t n);
void add(const Bf16* x, float* y, int64_t n);

/// y = x, n elements.
void convert(const float* x, Bf16* y, int64_t n);
void convert(const Bf16* x, float* y, int64_t n);

/// totals[:] += sum of rows [begin, end) of `x`.
void add_column_sums(const float* x, int64_t width, float* totals, int64_t begin, int64_t end);
void add_column_sums(const Bf16* x, int64_t width, float* totals, int64_t begin, int64_t end);

}  // namespace gato::kernels::cpu
