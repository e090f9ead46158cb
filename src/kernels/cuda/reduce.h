#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/cuda/types.h"

namespace gato::kernels::cuda {

/// totals[column] += the sum of the rows of `x`: a bias's gradient.
struct ColumnSums {
  Element element = Element::kFloat32;  ///< Of `x`: kFloat32 or kBFloat16.
  int64_t rows = 0, width = 0;
  const void* x = nullptr;    ///< [rows, width], dense.
  float* totals = nullptr;    ///< [width]
  void* workspace = nullptr;  ///< column_sums_workspace() bytes, aligned to 16.
};
[[nodiscard]] size_t column_sums_workspace(int64_t rows, int64_t width);
/// Sums over a number of row groups that depends on `rows` alone, then over the groups in order.
void add_column_sums(const ColumnSums& call, Stream stream);

/// Second stage of sums over rows: first[column] += partial[p, column] over all p in order, and, where wanted,
/// second[column] += partial[p, width + column].
struct PartialSums {
  const float* partial = nullptr;  ///< [parts, stride]
  int64_t parts = 0, stride = 0, width = 0;
  float* first = nullptr;  ///< [width]; null: not wanted.
  float* second = nullptr;
};
void fold_partial_sums(const PartialSums& call, Stream stream);

/// *total += the sum of loss[p] x weight[p], in double, in an order that depends on `positions` alone.
struct WeightedSum {
  int64_t positions = 0;
  const float* loss = nullptr;
  const float* weights = nullptr;
  double* total = nullptr;
};
void add_weighted_sum(const WeightedSum& call, Stream stream);

/// *norm = the sum of squares of `count` floats, in double, in an order that depends on `count` alone. Infinite or NaN
/// when an element is.
struct SquaredNorm {
  int64_t count = 0;
  const float* x = nullptr;
  double* norm = nullptr;
  void* workspace = nullptr;  ///< squared_norm_workspace() bytes, aligned to 8.
};
[[nodiscard]] size_t squared_norm_workspace(int64_t count);
void squared_norm(const SquaredNorm& call, Stream stream);

}  // namespace gato::kernels::cuda
