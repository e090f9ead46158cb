#include "kernels/cpu/layer_norm.h"

#include <cmath>

#include "kernels/cpu/vector.h"

namespace gato::kernels::cpu {
namespace {

GATO_INLINE float row_sum(const float* x, int64_t n) {
  Floats total{};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) total += load(x + i);
  if (i < n) total += load_partial(x + i, n - i, 0);
  return sum(total);
}

GATO_INLINE float row_square_deviation(const float* x, int64_t n, float mean) {
  Floats total{};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Floats d = load(x + i) - mean;
    total += d * d;
  }
  if (i < n) {
    const Floats d = load_partial(x + i, n - i, mean) - mean;
    total += d * d;
  }
  return sum(total);
}

}  // namespace

GATO_MULTIVERSION void layer_norm_forward(const LayerNormForward& task, int64_t begin, int64_t end) {
  const int64_t width = task.width;
  for (int64_t row = begin; row < end; ++row) {
    const float* x = task.x + row * width;
    if (task.delta != nullptr) {
      const float factor = task.factors == nullptr ? 1.0f : task.factors[row / task.rows_per_factor];
      const float* delta = task.delta + row * width;
      float* sums = task.sum + row * width;
      for (int64_t i = 0; i < width; ++i) sums[i] = x[i] + factor * delta[i];
      x = sums;
    }
    const float mean = row_sum(x, width) / static_cast<float>(width);
    const float variance = row_square_deviation(x, width, mean) / static_cast<float>(width);
    const float inverse = 1.0f / std::sqrt(variance + task.epsilon);
    float* y = task.y + row * width;
    for (int64_t i = 0; i < width; ++i) y[i] = (x[i] - mean) * inverse * task.gain[i] + task.offset[i];
    task.mean[row] = mean;
    task.inverse_deviation[row] = inverse;
  }
}

GATO_MULTIVERSION void layer_norm_backward(const LayerNormBackward& task, int64_t begin, int64_t end,
                                           float* gain_gradient, float* offset_gradient) {
  const int64_t width = task.width;
  for (int64_t row = begin; row < end; ++row) {
    const float* x = task.sum + row * width;
    const float* dy = task.y_gradient + row * width;
    const float mean = task.mean[row];
    const float inverse = task.inverse_deviation[row];
    Floats total{}, weighted{};
    for (int64_t i = 0; i < width; i += kLanes) {
      const int64_t left = width - i;
      const bool whole = left >= kLanes;
      const Floats normal = ((whole ? load(x + i) : load_partial(x + i, left, mean)) - mean) * inverse;
      const Floats g = whole ? load(dy + i) : load_partial(dy + i, left, 0);
      const Floats scaled = g * (whole ? load(task.gain + i) : load_partial(task.gain + i, left, 0));
      total += scaled;
      weighted += scaled * normal;
      if (whole) {
        store(gain_gradient + i, load(gain_gradient + i) + g * normal);
        store(offset_gradient + i, load(offset_gradient + i) + g);
      } else {
        store_partial(gain_gradient + i, load_partial(gain_gradient + i, left, 0) + g * normal, left);
        store_partial(offset_gradient + i, load_partial(offset_gradient + i, left, 0) + g, left);
      }
    }
    const float mean_1 = sum(total) / static_cast<float>(width);
    const float mean_2 = sum(weighted) / static_cast<float>(width);
    float* dx = task.x_gradient + row * width;
    for (int64_t i = 0; i < width; ++i) {
      const float normal = (x[i] - mean) * inverse;
      dx[i] = inverse * (dy[i] * task.gain[i] - mean_1 - normal * mean_2);
    }
    if (task.sum_gradient != nullptr) {
      const float* extra = task.sum_gradient + row * width;
      for (int64_t i = 0; i < width; ++i) dx[i] += extra[i];
    }
    if (task.delta_gradient != nullptr) {
      const float factor = task.factors == nullptr ? 1.0f : task.factors[row / task.rows_per_factor];
      float* dd = task.delta_gradient + row * width;
      for (int64_t i = 0; i < width; ++i) dd[i] = factor * dx[i];
    }
  }
}

}  // namespace gato::kernels::cpu
