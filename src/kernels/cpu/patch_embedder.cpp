#include "kernels/cpu/patch_embedder.h"

#include <algorithm>
#include <cmath>

#include "kernels/cpu/vector.h"

namespace gato::kernels::cpu {
namespace {

/// y = x scale[channel] + shift[channel].
GATO_INLINE void affine(const GroupNormShape& shape, const float* x, const float* scale, const float* shift, float* y) {
  for (int64_t p = 0; p < shape.places; ++p) {
    const int64_t at = p * shape.channels;
    for (int64_t c = 0; c < shape.channels; ++c) y[at + c] = x[at + c] * scale[c] + shift[c];
  }
}

/// Per channel: what GroupNorm does to it, as a scale and a shift.
GATO_INLINE void channel_affine(const GroupNormShape& shape, const float* gain, const float* offset, const float* mean,
                                const float* inverse, float* scale, float* shift) {
  const int64_t per_group = shape.channels / shape.groups;
  for (int64_t c = 0; c < shape.channels; ++c) {
    const int64_t g = c / per_group;
    scale[c] = inverse[g] * gain[c];
    shift[c] = offset[c] - mean[g] * scale[c];
  }
}

constexpr int64_t kMaxStackChannels = 1024;  // validate_config bounds the channels

GATO_INLINE void normalise_pixels_body(const uint8_t* x, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = static_cast<float>(x[i]) * (0.25f / 127.5f) - 0.25f;
}

GATO_INLINE void group_norm_gelu_forward_body(const GroupNormShape& shape, const float* x, const float* gain,
                                              const float* offset, float* y, float* mean, float* inverse_deviation) {
  float first[kMaxStackChannels], second[kMaxStackChannels];
  const int64_t channels = shape.channels;
  const int64_t per_group = channels / shape.groups;
  const auto count = static_cast<float>(shape.places * per_group);
  std::fill_n(first, channels, 0.0f);
  for (int64_t p = 0; p < shape.places; ++p) {
    for (int64_t c = 0; c < channels; ++c) first[c] += x[p * channels + c];
  }
  for (int64_t g = 0; g < shape.groups; ++g) {
    float total = 0;
    for (int64_t c = g * per_group; c < (g + 1) * per_group; ++c) total += first[c];
    mean[g] = total / count;
    for (int64_t c = g * per_group; c < (g + 1) * per_group; ++c) first[c] = mean[g];
  }
  std::fill_n(second, channels, 0.0f);
  for (int64_t p = 0; p < shape.places; ++p) {
    for (int64_t c = 0; c < channels; ++c) {
      const float d = x[p * channels + c] - first[c];
      second[c] += d * d;
    }
  }
  for (int64_t g = 0; g < shape.groups; ++g) {
    float total = 0;
    for (int64_t c = g * per_group; c < (g + 1) * per_group; ++c) total += second[c];
    inverse_deviation[g] = 1.0f / std::sqrt(total / count + shape.epsilon);
  }
  channel_affine(shape, gain, offset, mean, inverse_deviation, first, second);
  affine(shape, x, first, second, y);
  const int64_t n = shape.places * channels;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Floats v = load(y + i);
    store(y + i, v * normal_parts(v).cdf);
  }
  if (i < n) {
    const Floats v = load_partial(y + i, n - i, 0);
    store_partial(y + i, v * normal_parts(v).cdf, n - i);
  }
}

GATO_INLINE void group_norm_gelu_backward_body(const GroupNormShape& shape, const float* x, const float* gain,
                                               const float* offset, const float* mean, const float* inverse_deviation,
                                               const float* y_gradient, float* x_gradient, float* gain_gradient,
                                               float* offset_gradient, float* scratch) {
  const int64_t channels = shape.channels;
  const int64_t per_group = channels / shape.groups;
  const int64_t n = shape.places * channels;
  const auto count = static_cast<float>(shape.places * per_group);
  float* dz = scratch;  // gradient before GELU
  float* scale = scratch + n;
  float* shift = scale + channels;
  float* sums = shift + channels;     // of dz
  float* products = sums + channels;  // of dz (x - mean)
  float* means = products + channels;
  channel_affine(shape, gain, offset, mean, inverse_deviation, scale, shift);
  affine(shape, x, scale, shift, dz);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Floats z = load(dz + i);
    const NormalParts parts = normal_parts(z);
    store(dz + i, load(y_gradient + i) * (parts.cdf + z * parts.density));
  }
  if (i < n) {
    const Floats z = load_partial(dz + i, n - i, 0);
    const NormalParts parts = normal_parts(z);
    store_partial(dz + i, load_partial(y_gradient + i, n - i, 0) * (parts.cdf + z * parts.density), n - i);
  }
  std::fill_n(sums, 2 * channels, 0.0f);
  for (int64_t c = 0; c < channels; ++c) means[c] = mean[c / per_group];
  for (int64_t p = 0; p < shape.places; ++p) {
    for (int64_t c = 0; c < channels; ++c) {
      sums[c] += dz[p * channels + c];
      products[c] += dz[p * channels + c] * (x[p * channels + c] - means[c]);
    }
  }
  // With xhat = (x - mean) inverse: dx = inverse (dz gain - mean(dz gain) - xhat mean(dz gain xhat)), both means over
  // the group.
  for (int64_t g = 0; g < shape.groups; ++g) {
    const float inverse = inverse_deviation[g];
    float mean_1 = 0, mean_2 = 0;
    for (int64_t c = g * per_group; c < (g + 1) * per_group; ++c) {
      products[c] *= inverse;
      gain_gradient[c] += products[c];
      offset_gradient[c] += sums[c];
      mean_1 += sums[c] * gain[c];
      mean_2 += products[c] * gain[c];
    }
    mean_1 /= count;
    mean_2 /= count;
    for (int64_t c = g * per_group; c < (g + 1) * per_group; ++c) {
      sums[c] = -inverse * inverse * mean_2;                // factor of x
      products[c] = -inverse * mean_1 - sums[c] * mean[g];  // constant
    }
  }
  for (int64_t p = 0; p < shape.places; ++p) {
    const int64_t at = p * channels;
    for (int64_t c = 0; c < channels; ++c) {
      x_gradient[at + c] = dz[at + c] * scale[c] + x[at + c] * sums[c] + products[c];
    }
  }
}

GATO_INLINE void add_and_pool_body(const float* a, const float* b, float* y, int64_t side, int64_t cells,
                                   int64_t channels) {
  const int64_t span = side / cells;
  const float factor = 1.0f / static_cast<float>(span * span);
  std::fill_n(y, cells * cells * channels, 0.0f);
  for (int64_t row = 0; row < side; ++row) {
    for (int64_t column = 0; column < side; ++column) {
      const int64_t at = (row * side + column) * channels;
      float* cell = y + (row / span * cells + column / span) * channels;
      for (int64_t c = 0; c < channels; ++c) cell[c] += (a[at + c] + b[at + c]) * factor;
    }
  }
}

GATO_INLINE void pool_backward_body(const float* y_gradient, float* x_gradient, int64_t side, int64_t cells,
                                    int64_t channels) {
  const int64_t span = side / cells;
  const float factor = 1.0f / static_cast<float>(span * span);
  for (int64_t row = 0; row < side; ++row) {
    for (int64_t column = 0; column < side; ++column) {
      const float* cell = y_gradient + (row / span * cells + column / span) * channels;
      float* out = x_gradient + (row * side + column) * channels;
      for (int64_t c = 0; c < channels; ++c) out[c] = cell[c] * factor;
    }
  }
}

}  // namespace

GATO_DISPATCH(void, normalise_pixels, (const uint8_t* x, float* y, int64_t n), (x, y, n))
GATO_DISPATCH(void, group_norm_gelu_forward,
              (const GroupNormShape& shape, const float* x, const float* gain, const float* offset, float* y,
               float* mean, float* inverse_deviation),
              (shape, x, gain, offset, y, mean, inverse_deviation))
GATO_DISPATCH(void, group_norm_gelu_backward,
              (const GroupNormShape& shape, const float* x, const float* gain, const float* offset, const float* mean,
               const float* inverse_deviation, const float* y_gradient, float* x_gradient, float* gain_gradient,
               float* offset_gradient, float* scratch),
              (shape, x, gain, offset, mean, inverse_deviation, y_gradient, x_gradient, gain_gradient, offset_gradient,
               scratch))
GATO_DISPATCH(void, add_and_pool,
              (const float* a, const float* b, float* y, int64_t side, int64_t cells, int64_t channels),
              (a, b, y, side, cells, channels))
GATO_DISPATCH(void, pool_backward,
              (const float* y_gradient, float* x_gradient, int64_t side, int64_t cells, int64_t channels),
              (y_gradient, x_gradient, side, cells, channels))

}  // namespace gato::kernels::cpu
