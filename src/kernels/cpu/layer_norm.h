#pragma once
#include <cstdint>

#include "kernels/cpu/lanes.h"

namespace gato::kernels::cpu {

/// `T` is float or Bf16: the type of what goes to and comes from matrix products. The residual stream, statistics and
/// parameters are always floats.

/// Rows [begin, end) of (sum, y) = (x + factor delta, layer_norm(sum)); `delta` may be null, then `sum` is `x` and not
/// written.
template <class T>
struct LayerNormForward {
  const float* x;
  const T* delta;
  const float* factors;  ///< One per `rows_per_factor` rows; null: 1.
  int64_t rows_per_factor;
  const float* gain;
  const float* offset;
  int64_t width;
  float epsilon;
  float* sum;
  T* y;
  float* mean;  ///< One per row.
  float* inverse_deviation;
};
void layer_norm_forward(const LayerNormForward<float>& task, int64_t begin, int64_t end);
void layer_norm_forward(const LayerNormForward<Bf16>& task, int64_t begin, int64_t end);

/// Rows [begin, end) of the gradients. `sum_gradient` may be null (zero), `delta_gradient` null (not wanted).
template <class T>
struct LayerNormBackward {
  const float* sum;
  const float* mean;
  const float* inverse_deviation;
  const float* gain;
  const T* y_gradient;
  const float* sum_gradient;
  const float* factors;
  int64_t rows_per_factor;
  int64_t width;
  float* x_gradient;
  T* delta_gradient;
};
/// Adds to `gain_gradient` and `offset_gradient` [width], both never null.
void layer_norm_backward(const LayerNormBackward<float>& task, int64_t begin, int64_t end, float* gain_gradient,
                         float* offset_gradient);
void layer_norm_backward(const LayerNormBackward<Bf16>& task, int64_t begin, int64_t end, float* gain_gradient,
                         float* offset_gradient);

}  // namespace gato::kernels::cpu
