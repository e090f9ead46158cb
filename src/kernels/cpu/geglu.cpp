#include "kernels/cpu/geglu.h"

#include "kernels/cpu/vector.h"

namespace gato::kernels::cpu {
namespace {

template <class T>
GATO_INLINE void geglu_forward_body(const T* x, T* y, int64_t half, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const T* gate = x + row * 2 * half;
    const T* value = gate + half;
    T* out = y + row * half;
    for_vectors(
        half, [&](int64_t i, int64_t lanes) __attribute__((always_inline)) {
          const Floats g = get(gate + i, lanes);
          put(out + i, g * normal_parts(g).cdf * get(value + i, lanes), lanes);
        });
  }
}

template <class T>
GATO_INLINE void geglu_backward_body(const T* x, const T* y_gradient, T* x_gradient, int64_t half, int64_t begin,
                                     int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const T* gate = x + row * 2 * half;
    const T* value = gate + half;
    const T* dy = y_gradient + row * half;
    T* gate_gradient = x_gradient + row * 2 * half;
    T* value_gradient = gate_gradient + half;
    for_vectors(
        half, [&](int64_t i, int64_t lanes) __attribute__((always_inline)) {
          const Floats g = get(gate + i, lanes);
          const Floats d = get(dy + i, lanes);
          const NormalParts parts = normal_parts(g);
          put(gate_gradient + i, d * get(value + i, lanes) * (parts.cdf + g * parts.density), lanes);
          put(value_gradient + i, d * g * parts.cdf, lanes);
        });
  }
}

}  // namespace

GATO_DISPATCH(void, geglu_forward, (const float* x, float* y, int64_t half, int64_t begin, int64_t end),
              (x, y, half, begin, end))
GATO_DISPATCH(void, geglu_forward, (const Bf16* x, Bf16* y, int64_t half, int64_t begin, int64_t end),
              (x, y, half, begin, end))
GATO_DISPATCH(void, geglu_backward,
              (const float* x, const float* y_gradient, float* x_gradient, int64_t half, int64_t begin, int64_t end),
              (x, y_gradient, x_gradient, half, begin, end))
GATO_DISPATCH(void, geglu_backward,
              (const Bf16* x, const Bf16* y_gradient, Bf16* x_gradient, int64_t half, int64_t begin, int64_t end),
              (x, y_gradient, x_gradient, half, begin, end))

}  // namespace gato::kernels::cpu
