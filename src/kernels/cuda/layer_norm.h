#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/cuda/types.h"

namespace gato::kernels::cuda {

/// The widest row that a norm takes.
inline constexpr int64_t kLargestNormWidth = 8192;

/// sum = x + factor delta, y = (sum - mean) / deviation x gain + offset, row by row. All arrays are dense and on the
/// device; shapes [rows, width] unless said otherwise.
struct LayerNormForward {
  Element element = Element::kFloat32;  ///< Of `delta` and `y`: kFloat32 or kBFloat16.
  int64_t rows = 0, width = 0;          ///< width in [1, kLargestNormWidth].
  const float* x = nullptr;
  const void* delta = nullptr;     ///< Null: `sum` is `x`, a plain norm.
  const float* factors = nullptr;  ///< One per `rows_per_factor` rows (stochastic depth); null: 1.
  int64_t rows_per_factor = 1;
  const float* gain = nullptr;    ///< [width]
  const float* offset = nullptr;  ///< [width]
  float epsilon = 1e-5f;          ///< Added to the variance.
  float* sum = nullptr;           ///< May be `x`. Not touched without `delta`.
  void* y = nullptr;
  float* mean = nullptr;               ///< [rows]
  float* inverse_deviation = nullptr;  ///< [rows]
};

/// Asynchronous on `stream`. Throws ContractError for arguments that break the contract above, DeviceError when the
/// launch fails; so do all functions of this folder.
void layer_norm_forward(const LayerNormForward& call, Stream stream);

/// Gradients of the above.
struct LayerNormBackward {
  Element element = Element::kFloat32;  ///< Of `y_gradient` and `delta_gradient`.
  int64_t rows = 0, width = 0;
  const float* sum = nullptr;  ///< As forward left it (`x` without delta).
  const float* mean = nullptr;
  const float* inverse_deviation = nullptr;
  const float* gain = nullptr;
  const void* y_gradient = nullptr;
  const float* sum_gradient = nullptr;  ///< What else flows into `sum`; null: nothing.
  const float* factors = nullptr;
  int64_t rows_per_factor = 1;
  float* x_gradient = nullptr;     ///< Written; may be `sum_gradient`.
  void* delta_gradient = nullptr;  ///< factor x x_gradient; null: not wanted.
  float* gain_gradient = nullptr;  ///< [width], added to; null: not wanted.
  float* offset_gradient = nullptr;
  void* workspace = nullptr;  ///< layer_norm_backward_workspace() bytes, aligned to 16.
};

/// Bytes of device memory that layer_norm_backward needs besides its arguments.
[[nodiscard]] size_t layer_norm_backward_workspace(int64_t rows, int64_t width);

/// The parameters' gradients are summed over a number of row groups that depends on the shape alone, then over the
/// groups in order: same bits on every device.
void layer_norm_backward(const LayerNormBackward& call, Stream stream);

}  // namespace gato::kernels::cuda
