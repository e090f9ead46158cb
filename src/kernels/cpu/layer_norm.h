#pragma once
#include <cstdint>

namespace gato::kernels::cpu {

/// Rows [begin, end) of (sum, y) = (x + factor delta, layer_norm(sum)); `delta` may be null, then `sum` is `x` and not
/// written.
struct LayerNormForward {
  const float* x;
  const float* delta;
  const float* factors;  ///< One per `rows_per_factor` rows; null: 1.
  int64_t rows_per_factor;
  const float* gain;
  const float* offset;
  int64_t width;
  float epsilon;
  float* sum;
  float* y;
  float* mean;  ///< One per row.
  float* inverse_deviation;
};
void layer_norm_forward(const LayerNormForward& task, int64_t begin, int64_t end);

/// Rows [begin, end) of the gradients. `sum_gradient` may be null (zero), `delta_gradient` null (not wanted).
struct LayerNormBackward {
  const float* sum;
  const float* mean;
  const float* inverse_deviation;
  const float* gain;
  const float* y_gradient;
  const float* sum_gradient;
  const float* factors;
  int64_t rows_per_factor;
  int64_t width;
  float* x_gradient;
  float* delta_gradient;
};
/// Adds to `gain_gradient` and `offset_gradient` [width], both never null.
void layer_norm_backward(const LayerNormBackward& task, int64_t begin, int64_t end, float* gain_gradient,
                         float* offset_gradient);

}  // namespace gato::kernels::cpu
