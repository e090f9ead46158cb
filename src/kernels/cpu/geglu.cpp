#include "kernels/cpu/geglu.h"

#include "kernels/cpu/vector.h"

namespace gato::kernels::cpu {
namespace {

/// Calls body(offset, lanes) for vectors that cover [0, n); the last may have fewer than 16 lanes.
template <class Body>
GATO_INLINE void for_vectors(int64_t n, const Body& body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, kLanes);
  if (i < n) body(i, n - i);
}

GATO_INLINE Floats get(const float* p, int64_t lanes) { return lanes == kLanes ? load(p) : load_partial(p, lanes, 0); }
GATO_INLINE void put(float* p, Floats v, int64_t lanes) {
  if (lanes == kLanes) {
    store(p, v);
  } else {
    store_partial(p, v, lanes);
  }
}

}  // namespace

GATO_MULTIVERSION void geglu_forward(const float* x, float* y, int64_t half, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const float* gate = x + row * 2 * half;
    const float* value = gate + half;
    float* out = y + row * half;
    for_vectors(
        half, [&](int64_t i, int64_t lanes) __attribute__((always_inline)) {
          const Floats g = get(gate + i, lanes);
          put(out + i, g * normal_parts(g).cdf * get(value + i, lanes), lanes);
        });
  }
}

GATO_MULTIVERSION void geglu_backward(const float* x, const float* y_gradient, float* x_gradient, int64_t half,
                                      int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    const float* gate = x + row * 2 * half;
    const float* value = gate + half;
    const float* dy = y_gradient + row * half;
    float* gate_gradient = x_gradient + row * 2 * half;
    float* value_gradient = gate_gradient + half;
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

}  // namespace gato::kernels::cpu
