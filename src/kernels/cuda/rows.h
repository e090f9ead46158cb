#pragma once
#include <cstdint>

#include "kernels/cuda/types.h"

namespace gato::kernels::cuda {

/// to[i, :] = from[positions[i], :]. Dense arrays of any element type. A position outside [0, rows) gives NaN.
struct GatherRows {
  Element element = Element::kFloat32;
  int64_t rows = 0, width = 0;  ///< Of `from`.
  int64_t count = 0;
  const void* from = nullptr;          ///< [rows, width]
  const int64_t* positions = nullptr;  ///< [count]
  void* to = nullptr;                  ///< [count, width]
};
void gather_rows(const GatherRows& call, Stream stream);

/// to[positions[i], :] = from[i, :], and zero in all other rows: the gradient of gather_rows. Writes each element once.
struct ScatterRows {
  Element element = Element::kFloat32;
  int64_t rows = 0, width = 0;  ///< Of `to`.
  int64_t count = 0;
  const void* from = nullptr;          ///< [count, width]
  const int64_t* positions = nullptr;  ///< [count], strictly ascending. Those outside [0, rows) are left out.
  void* to = nullptr;                  ///< [rows, width]
};
void scatter_rows(const ScatterRows& call, Stream stream);

/// y[row, :] += bias, or = bias. The sum is rounded to y's type.
struct RowBias {
  Element element = Element::kFloat32;  ///< Of `y`: kFloat32 or kBFloat16.
  int64_t rows = 0, width = 0;
  const float* bias = nullptr;  ///< [width]
  void* y = nullptr;            ///< [rows, width]
  bool accumulate = true;       ///< False: fills, for a matrix product that adds to what it finds.
};
void add_bias(const RowBias& call, Stream stream);

}  // namespace gato::kernels::cuda
