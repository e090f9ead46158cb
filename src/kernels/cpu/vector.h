#pragma once
#include <cstdint>

#include "gato/kernels/cpu_path.h"
#include "kernels/cpu/lanes.h"

/// Portable vectors of 16 floats by compiler extensions. The body of a kernel is a GATO_INLINE function `name_body`;
/// GATO_DISPATCH makes `name` of it, compiled for AVX-512, for AVX2 and for the baseline, one of which is taken by
/// cpu_path(). What a body calls must be GATO_INLINE, or it would be compiled for the baseline only. Files of this
/// folder know pointers and sizes, nothing of LibTorch.
namespace gato::kernels::cpu {

#define GATO_INLINE __attribute__((always_inline)) inline

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define GATO_DISPATCH(type, name, parameters, arguments)                                                  \
  namespace {                                                                                             \
  __attribute__((target("arch=x86-64-v4,prefer-vector-width=512"))) type name##_avx512 parameters {       \
    return name##_body arguments;                                                                         \
  }                                                                                                       \
  __attribute__((target("arch=x86-64-v3"))) type name##_avx2 parameters { return name##_body arguments; } \
  type name##_plain parameters { return name##_body arguments; }                                          \
  }                                                                                                       \
  type name parameters {                                                                                  \
    switch (cpu_path()) {                                                                                 \
      case CpuPath::kAvx512:                                                                              \
        return name##_avx512 arguments;                                                                   \
      case CpuPath::kAvx2:                                                                                \
        return name##_avx2 arguments;                                                                     \
      case CpuPath::kPlain:                                                                               \
        break;                                                                                            \
    }                                                                                                     \
    return name##_plain arguments;                                                                        \
  }
#else
#define GATO_DISPATCH(type, name, parameters, arguments) \
  type name parameters { return name##_body arguments; }
#endif

using Floats = float __attribute__((vector_size(64)));
using Ints = int32_t __attribute__((vector_size(64)));
using FloatsUnaligned = float __attribute__((vector_size(64), aligned(4), may_alias));

GATO_INLINE Floats load(const float* p) { return *reinterpret_cast<const FloatsUnaligned*>(p); }
GATO_INLINE void store(float* p, Floats v) { *reinterpret_cast<FloatsUnaligned*>(p) = v; }
GATO_INLINE Floats broadcast(float value) { return value - Floats{}; }

/// The first `n` < 16 floats, the other lanes filled with `rest`.
GATO_INLINE Floats load_partial(const float* p, int64_t n, float rest) {
  Floats v = broadcast(rest);
  for (int64_t i = 0; i < n; ++i) v[i] = p[i];
  return v;
}
GATO_INLINE void store_partial(float* p, Floats v, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = v[i];
}

/// bfloat16, rounded to nearest even; NaN stays NaN.
using Halves = uint16_t __attribute__((vector_size(32)));
using HalvesUnaligned = uint16_t __attribute__((vector_size(32), aligned(2), may_alias));
using Words = uint32_t __attribute__((vector_size(64)));

GATO_INLINE Floats widen(Halves v) { return (Floats)(__builtin_convertvector(v, Words) << 16); }
GATO_INLINE Halves narrow(Floats v) {
  const Words bits = (Words)v;
  const Words rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  const Words quiet = (bits >> 16) | 0x40;
  return __builtin_convertvector(v == v ? rounded : quiet, Halves);
}
GATO_INLINE Floats load(const Bf16* p) { return widen(*reinterpret_cast<const HalvesUnaligned*>(p)); }
GATO_INLINE void store(Bf16* p, Floats v) { *reinterpret_cast<HalvesUnaligned*>(p) = narrow(v); }
GATO_INLINE Floats load_partial(const Bf16* p, int64_t n, float rest) {
  Floats v = broadcast(rest);
  for (int64_t i = 0; i < n; ++i) v[i] = __builtin_bit_cast(float, static_cast<uint32_t>(p[i].bits) << 16);
  return v;
}
GATO_INLINE void store_partial(Bf16* p, Floats v, int64_t n) {
  const Halves halves = narrow(v);
  for (int64_t i = 0; i < n; ++i) p[i].bits = halves[i];
}

/// Calls body(offset, lanes) for vectors that cover [0, n); the last may have fewer than 16 lanes.
template <class Body>
GATO_INLINE void for_vectors(int64_t n, const Body& body) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) body(i, kLanes);
  if (i < n) body(i, n - i);
}

/// Up to 16 numbers; missing lanes are filled with `rest`, or left alone in memory.
template <class T>
GATO_INLINE Floats get(const T* p, int64_t lanes, float rest = 0) {
  return lanes == kLanes ? load(p) : load_partial(p, lanes, rest);
}
template <class T>
GATO_INLINE void put(T* p, Floats v, int64_t lanes) {
  if (lanes == kLanes) {
    store(p, v);
  } else {
    store_partial(p, v, lanes);
  }
}

GATO_INLINE Floats max(Floats a, Floats b) { return a > b ? a : b; }
GATO_INLINE Floats min(Floats a, Floats b) { return a < b ? a : b; }

/// Sum and maximum over the lanes, in a fixed order.
GATO_INLINE float sum(Floats v) {
  v += __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
  v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
  v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
  return v[0] + v[1];
}
GATO_INLINE float max(Floats v) {
  v = max(v, __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
  v = max(v, __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));
  v = max(v, __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13));
  return v[0] > v[1] ? v[0] : v[1];
}

/// e^x to about one unit in the last place; 0 below -87, infinity above 88.7, NaN for NaN. Range reduction to
/// [-ln 2 / 2, ln 2 / 2] and the polynomial of the Cephes library (Moshier, expf).
GATO_INLINE Floats exp(Floats x) {
  constexpr float kRound = 12582912.0f;  // 1.5 x 2^23: adding it leaves the nearest integer in the low bits
  const Floats clamped = min(max(x, broadcast(-87.3f)), broadcast(88.8f));
  const Floats shifted = clamped * 1.44269504088896341f + kRound;
  const Floats n = shifted - kRound;
  Floats r = clamped - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  Floats p = broadcast(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  // Two factors of 2^(n/2), so that n = 128 does not overflow the exponent field.
  const Ints whole = (Ints)shifted - 0x4B400000;
  const Ints half = whole >> 1;
  const Floats scale_1 = (Floats)((half + 127) << 23);
  const Floats scale_2 = (Floats)((whole - half + 127) << 23);
  const Floats y = p * scale_1 * scale_2;
  return x < broadcast(-87.3f) ? Floats{} : (x != x ? x : y);
}

/// The same bits as exp(x) for x <= 0 (and up to 88), NaN and minus infinity included, for less: there is nothing to
/// clamp above, and no result above 0 is so small that its scale needs two steps.
GATO_INLINE Floats exp_nonpositive(Floats x) {
  constexpr float kRound = 12582912.0f;
  const Floats shifted = x * 1.44269504088896341f + kRound;
  const Floats n = shifted - kRound;
  Floats r = x - n * 0.693359375f;
  r = r + n * 2.12194440e-4f;
  Floats p = broadcast(1.9875691500e-4f);
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const Floats scale = (Floats)(((Ints)shifted + (127 - 0x4B400000)) << 23);
  return x < broadcast(-87.3f) ? Floats{} : p * scale;
}

/// Distribution function and density of the standard normal: gelu(x) = x cdf, gelu'(x) = cdf + x density. The error
/// function is formula 7.1.26 of Abramowitz and Stegun, absolute error 1.5e-7, which shares its exponential with the
/// density.
struct NormalParts {
  Floats cdf, density;
};
GATO_INLINE NormalParts normal_parts(Floats x) {
  const Floats magnitude = x < Floats{} ? -x : x;
  const Floats e = exp(x * x * -0.5f);
  const Floats t = 1.0f / (magnitude * (0.3275911f * 0.70710678118654752f) + 1.0f);
  Floats p = broadcast(1.061405429f);
  p = p * t - 1.453152027f;
  p = p * t + 1.421413741f;
  p = p * t - 0.284496736f;
  p = p * t + 0.254829592f;
  const Floats tail = p * t * e * 0.5f;  // of the side away from x
  return {x < Floats{} ? tail : 1.0f - tail, e * 0.39894228040143268f};
}

/// C = A B for kRows rows: `a` [kRows, k] with row stride `lda`, `b` [k, 16 kVectors] with `ldb`, `c` with `ldc`.
template <int kRows, int kVectors>
GATO_INLINE void multiply_tile(const float* a, int64_t lda, const float* b, int64_t ldb, float* c, int64_t ldc,
                               int64_t k) {
  Floats sums[kRows][kVectors] = {};
  for (int64_t i = 0; i < k; ++i) {
    Floats row[kVectors];
    for (int v = 0; v < kVectors; ++v) row[v] = load(b + i * ldb + v * kLanes);
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) sums[r][v] += a[r * lda + i] * row[v];
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) store(c + r * ldc + v * kLanes, sums[r][v]);
  }
}

/// C = A B with `n` columns, a multiple of 16. `b` is cut into tiles of 32 columns, `tile` floats apart: 32 and a row
/// stride `ldb` for an ordinary matrix; 32 k and `ldb` 32 for tiles one after the other.
template <int kRows>
GATO_INLINE void multiply(const float* a, int64_t lda, const float* b, int64_t ldb, int64_t tile, float* c, int64_t ldc,
                          int64_t k, int64_t n) {
  int64_t j = 0;
  for (; j + 2 * kLanes <= n; j += 2 * kLanes, b += tile) multiply_tile<kRows, 2>(a, lda, b, ldb, c + j, ldc, k);
  for (; j < n; j += kLanes, b += kLanes) multiply_tile<kRows, 1>(a, lda, b, ldb, c + j, ldc, k);
}

}  // namespace gato::kernels::cpu
