#pragma once
#include <cstdint>

namespace gato::kernels::cpu {

/// y = (x / 127.5 - 1) / 4 of `n` pixel values.
void normalise_pixels(const uint8_t* x, float* y, int64_t n);

/// GroupNorm and GELU of one patch's features, channels last: `x` and `y` [places, channels]. `groups` divides
/// `channels`.
struct GroupNormShape {
  int64_t places, channels, groups;
  float epsilon;
};
/// Writes the statistics, one of each per group.
void group_norm_gelu_forward(const GroupNormShape& shape, const float* x, const float* gain, const float* offset,
                             float* y, float* mean, float* inverse_deviation);
/// Writes `x_gradient`, adds to `gain_gradient` and `offset_gradient` [channels]. `scratch`: places x channels + 5
/// channels floats.
void group_norm_gelu_backward(const GroupNormShape& shape, const float* x, const float* gain, const float* offset,
                              const float* mean, const float* inverse_deviation, const float* y_gradient,
                              float* x_gradient, float* gain_gradient, float* offset_gradient, float* scratch);

/// Average of a + b over the cells of one patch: `a`, `b` [side, side, channels], `y` [cells, cells, channels].
void add_and_pool(const float* a, const float* b, float* y, int64_t side, int64_t cells, int64_t channels);
/// Its gradient, the same for `a` and `b`.
void pool_backward(const float* y_gradient, float* x_gradient, int64_t side, int64_t cells, int64_t channels);

}  // namespace gato::kernels::cpu
