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

template <class T>
GATO_INLINE void layer_norm_forward_body(const LayerNormForward<T>& task, int64_t begin, int64_t end) {
  const int64_t width = task.width;
  for (int64_t row = begin; row < end; ++row) {
    const float* x = task.x + row * width;
    if (task.delta != nullptr) {
      const float factor = task.factors == nullptr ? 1.0f : task.factors[row / task.rows_per_factor];
      const T* delta = task.delta + row * width;
      float* sums = task.sum + row * width;
      for_vectors(
          width, [&](int64_t i, int64_t lanes) __attribute__((always_inline)) {
            put(sums + i, get(x + i, lanes) + factor * get(delta + i, lanes), lanes);
          });
      x = sums;
    }
    const float mean = row_sum(x, width) / static_cast<float>(width);
    const float variance = row_square_deviation(x, width, mean) / static_cast<float>(width);
    const float inverse = 1.0f / std::sqrt(variance + task.epsilon);
    T* y = task.y + row * width;
    for_vectors(
        width, [&](int64_t i, int64_t lanes) __attribute__((always_inline)) {
          const Floats normal = (get(x + i, lanes) - mean) * inverse;
          put(y + i, normal * get(task.gain + i, lanes) + get(task.offset + i, lanes), lanes);
        });
    task.mean[row] = mean;
    task.inverse_deviation[row] = inverse;
  }
}

template <class T>
GATO_INLINE void layer_norm_backward_body(const LayerNormBackward<T>& task, int64_t begin, int64_t end,
                                          float* gain_gradient, float* offset_gradient) {
  const int64_t width = task.width;
  for (int64_t row = begin; row < end; ++row) {
    const float* x = task.sum + row * width;
    const T* dy = task.y_gradient + row * width;
    const float mean = task.mean[row];
    const float inverse = task.inverse_deviation[row];
    Floats total{}, weighted{};
    for_vectors(
        width, [&](int64_t i, int64_t lanes) __attribute__((always_inline)) {
          const Floats normal = (get(x + i, lanes, mean) - mean) * inverse;
          const Floats g = get(dy + i, lanes);
          const Floats scaled = g * get(task.gain + i, lanes);
          total += scaled;
          weighted += scaled * normal;
          put(gain_gradient + i, get(gain_gradient + i, lanes) + g * normal, lanes);
          put(offset_gradient + i, get(offset_gradient + i, lanes) + g, lanes);
        });
    const float mean_1 = sum(total) / static_cast<float>(width);
    const float mean_2 = sum(weighted) / static_cast<float>(width);
    const float factor = task.factors == nullptr ? 1.0f : task.factors[row / task.rows_per_factor];
    for_vectors(
        width, [&](int64_t i, int64_t lanes) __attribute__((always_inline)) {
          const Floats normal = (get(x + i, lanes) - mean) * inverse;
          Floats dx = inverse * (get(dy + i, lanes) * get(task.gain + i, lanes) - mean_1 - normal * mean_2);
          if (task.sum_gradient != nullptr) dx += get(task.sum_gradient + row * width + i, lanes);
          put(task.x_gradient + row * width + i, dx, lanes);
          if (task.delta_gradient != nullptr) put(task.delta_gradient + row * width + i, factor * dx, lanes);
        });
  }
}

}  // namespace

GATO_DISPATCH(void, layer_norm_forward, (const LayerNormForward<float>& task, int64_t begin, int64_t end),
              (task, begin, end))
GATO_DISPATCH(void, layer_norm_forward, (const LayerNormForward<Bf16>& task, int64_t begin, int64_t end),
              (task, begin, end))
GATO_DISPATCH(void, layer_norm_backward,
              (const LayerNormBackward<float>& task, int64_t begin, int64_t end, float* gain_gradient,
               float* offset_gradient),
              (task, begin, end, gain_gradient, offset_gradient))
GATO_DISPATCH(void, layer_norm_backward,
              (const LayerNormBackward<Bf16>& task, int64_t begin, int64_t end, float* gain_gradient,
               float* offset_gradient),
              (task, begin, end, gain_gradient, offset_gradient))

}  // namespace gato::kernels::cpu
