#pragma once
// CUDA's language for the host's compiler: what cuda_runtime.h, cuda_bf16.h and cuda_fp16.h give a kernel, as far as
// kernels/cuda/device.h promises it. What is missing here (__shared__, atomics on floats, ...) does not compile, and is
// meant not to.

#if defined(GATO_CUDA_EMULATION)
// A kernel's calls of these go to the emulator, which looks at what they touch (with -fno-builtin-memcpy and so on, for
// else compilers put moves in their place). Before the headers that declare them.
extern "C" {
void* memcpy(void*, const void*, __SIZE_TYPE__) noexcept __asm__("gato_emulation_memcpy");
void* memmove(void*, const void*, __SIZE_TYPE__) noexcept __asm__("gato_emulation_memmove");
void* memset(void*, int, __SIZE_TYPE__) noexcept __asm__("gato_emulation_memset");
}
#endif

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "cuda_emulation/instructions.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __constant__ static constexpr

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

#define GATO_EMULATED_VECTORS(scalar, prefix)                              \
  struct alignas(2 * sizeof(scalar)) prefix##2 {                           \
    scalar x, y;                                                           \
  };                                                                       \
  struct alignas(4 * sizeof(scalar)) prefix##4 {                           \
    scalar x, y, z, w;                                                     \
  };                                                                       \
  inline prefix##2 make_##prefix##2(scalar x, scalar y) { return {x, y}; } \
  inline prefix##4 make_##prefix##4(scalar x, scalar y, scalar z, scalar w) { return {x, y, z, w}; }
GATO_EMULATED_VECTORS(int, int)
GATO_EMULATED_VECTORS(unsigned, uint)
GATO_EMULATED_VECTORS(float, float)
#undef GATO_EMULATED_VECTORS
struct float3 {
  float x, y, z;
};
struct int3 {
  int x, y, z;
};
struct alignas(16) double2 {
  double x, y;
};
inline float3 make_float3(float x, float y, float z) { return {x, y, z}; }
inline int3 make_int3(int x, int y, int z) { return {x, y, z}; }
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
inline double2 make_double2(double x, double y) { return {x, y}; }

#define threadIdx (::gato::cuda_emulation::thread_index())
#define blockIdx (::gato::cuda_emulation::block_index())
#define blockDim (::gato::cuda_emulation::block_extent())
#define gridDim (::gato::cuda_emulation::grid_extent())

namespace gato::cuda_emulation {

struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

__forceinline__ float widen(BFloat16 value) { return std::bit_cast<float>(uint32_t{value.bits} << 16); }

/// Rounds to nearest even; NaN becomes 0x7fff as in CUDA.
__forceinline__ BFloat16 narrow_bfloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {0x7fff};
  return {static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
}

__forceinline__ float widen(Float16 value) {
  const uint32_t sign = uint32_t{value.bits & 0x8000u} << 16;
  const uint32_t rest = value.bits & 0x7fffu;
  if (rest >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
  // Shifted into place the exponent is 112 too small; the product mends it, for subnormal numbers too.
  const float magnitude = std::bit_cast<float>(rest << 13) * 0x1p112f;
  return std::bit_cast<float>(sign | std::bit_cast<uint32_t>(magnitude));
}

/// Rounds to nearest even; NaN becomes 0x7fff as in CUDA.
__forceinline__ Float16 narrow_float16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t rest = bits & 0x7fffffffu;
  if (rest > 0x7f800000u) return {0x7fff};
  if (rest >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};  // 65520 and up round to infinity
  uint32_t half = 0;
  if (rest < 0x38800000u) {
    // Subnormal: adding 0.5 puts the last kept bit, worth 2^-24, at the end of the mantissa, and rounds.
    half = std::bit_cast<uint32_t>(std::bit_cast<float>(rest) + 0.5f) - 0x3f000000u;
  } else {
    half = (rest - 0x38000000u + 0xfffu + (rest >> 13 & 1)) >> 13;
  }
  return {static_cast<uint16_t>(sign | half)};
}

template <class T>
__forceinline__ T shuffle_value(uint32_t mask, T value, Shuffle kind, int argument, int width, Site site) {
  static_assert((sizeof(T) == 4 || sizeof(T) == 8) && std::is_trivially_copyable_v<T>, "4 or 8 bytes");
  uint64_t word = 0;
  __builtin_memcpy(&word, &value, sizeof(T));
  word = shuffle(mask, word, kind, argument, width, site);
  __builtin_memcpy(&value, &word, sizeof(T));
  return value;
}

template <class T>
__forceinline__ T atomic_value(Atomic kind, T* pointer, T value, T compare, Site site) {
  return static_cast<T>(atomic(kind, pointer, sizeof(T), static_cast<uint64_t>(value), static_cast<uint64_t>(compare),
                               std::is_signed_v<T>, site));
}

}  // namespace gato::cuda_emulation

#define GATO_EMULATED_SITE ::gato::cuda_emulation::Site site = ::gato::cuda_emulation::Site::here()

__forceinline__ void __syncthreads(GATO_EMULATED_SITE) { ::gato::cuda_emulation::sync_threads(site); }
__forceinline__ void __syncwarp(uint32_t mask = 0xffffffffu, GATO_EMULATED_SITE) {
  ::gato::cuda_emulation::sync_warp(mask, site);
}

#define GATO_EMULATED_SHUFFLE(name, kind)                                                                             \
  template <class T>                                                                                                  \
  __forceinline__ T name(uint32_t mask, T value, int argument, int width = 32, GATO_EMULATED_SITE) {                  \
    return ::gato::cuda_emulation::shuffle_value(mask, value, ::gato::cuda_emulation::Shuffle::kind, argument, width, \
                                                 site);                                                               \
  }
GATO_EMULATED_SHUFFLE(__shfl_sync, kIndex)
GATO_EMULATED_SHUFFLE(__shfl_xor_sync, kXor)
GATO_EMULATED_SHUFFLE(__shfl_down_sync, kDown)
GATO_EMULATED_SHUFFLE(__shfl_up_sync, kUp)
#undef GATO_EMULATED_SHUFFLE

__forceinline__ uint32_t __ballot_sync(uint32_t mask, int predicate, GATO_EMULATED_SITE) {
  return ::gato::cuda_emulation::ballot(mask, predicate != 0, site);
}
__forceinline__ int __any_sync(uint32_t mask, int predicate, GATO_EMULATED_SITE) {
  return ::gato::cuda_emulation::ballot(mask, predicate != 0, site) != 0;
}
__forceinline__ int __all_sync(uint32_t mask, int predicate, GATO_EMULATED_SITE) {
  return ::gato::cuda_emulation::ballot(mask, predicate == 0, site) == 0;
}

#define GATO_EMULATED_ATOMIC(name, kind, T)                                                           \
  __forceinline__ T name(T* pointer, T value, GATO_EMULATED_SITE) {                                   \
    return ::gato::cuda_emulation::atomic_value(::gato::cuda_emulation::Atomic::kind, pointer, value, \
                                                static_cast<T>(0), site);                             \
  }
#define GATO_EMULATED_ATOMICS(T)                                                                                 \
  GATO_EMULATED_ATOMIC(atomicAdd, kAdd, T)                                                                       \
  GATO_EMULATED_ATOMIC(atomicMin, kMin, T)                                                                       \
  GATO_EMULATED_ATOMIC(atomicMax, kMax, T)                                                                       \
  GATO_EMULATED_ATOMIC(atomicExch, kExchange, T)                                                                 \
  GATO_EMULATED_ATOMIC(atomicOr, kOr, T)                                                                         \
  GATO_EMULATED_ATOMIC(atomicAnd, kAnd, T)                                                                       \
  __forceinline__ T atomicCAS(T* pointer, T compare, T value, GATO_EMULATED_SITE) {                              \
    return ::gato::cuda_emulation::atomic_value(::gato::cuda_emulation::Atomic::kCompareAndSwap, pointer, value, \
                                                compare, site);                                                  \
  }
GATO_EMULATED_ATOMICS(int)
GATO_EMULATED_ATOMICS(unsigned)
GATO_EMULATED_ATOMICS(unsigned long long)
#undef GATO_EMULATED_ATOMICS
#undef GATO_EMULATED_ATOMIC

template <class T>
__forceinline__ T __ldg(const T* pointer, GATO_EMULATED_SITE) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 16 && std::has_single_bit(sizeof(T)));
  const ::gato::cuda_emulation::Uint4 word = ::gato::cuda_emulation::load(pointer, sizeof(T), site);
  T value;
  __builtin_memcpy(&value, &word, sizeof(T));
  return value;
}
#undef GATO_EMULATED_SITE

// ---------------------------------------------------------------------------------------------- mathematics
using std::max;
using std::min;

__forceinline__ float rsqrtf(float x) { return 1.0f / sqrtf(x); }
__forceinline__ double rsqrt(double x) { return 1.0 / sqrt(x); }
__forceinline__ float __expf(float x) { return expf(x); }
__forceinline__ float __exp10f(float x) { return powf(10.0f, x); }
__forceinline__ float __logf(float x) { return logf(x); }
__forceinline__ float __log2f(float x) { return log2f(x); }
__forceinline__ float __sinf(float x) { return sinf(x); }
__forceinline__ float __cosf(float x) { return cosf(x); }
__forceinline__ void __sincosf(float x, float* s, float* c) {
  *s = sinf(x);
  *c = cosf(x);
}
__forceinline__ float __powf(float x, float y) { return powf(x, y); }
__forceinline__ float __fdividef(float x, float y) { return x / y; }
__forceinline__ float __saturatef(float x) { return fminf(fmaxf(x, 0.0f), 1.0f); }
__forceinline__ float __frcp_rn(float x) { return 1.0f / x; }
__forceinline__ float __fdiv_rn(float x, float y) { return x / y; }
__forceinline__ float __fsqrt_rn(float x) { return sqrtf(x); }
__forceinline__ float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
__forceinline__ double __fma_rn(double x, double y, double z) { return fma(x, y, z); }
// Not to be joined with a neighbour into one multiply-add: the value passes through a register the compiler cannot see
// into.
__forceinline__ float __fmul_rn(float x, float y) {
  float product = x * y;
  asm("" : "+x"(product));
  return product;
}
__forceinline__ float __fadd_rn(float x, float y) {
  asm("" : "+x"(x), "+x"(y));
  return x + y;
}
__forceinline__ float __fsub_rn(float x, float y) {
  asm("" : "+x"(x), "+x"(y));
  return x - y;
}
__forceinline__ double __dmul_rn(double x, double y) {
  double product = x * y;
  asm("" : "+x"(product));
  return product;
}
__forceinline__ double __dadd_rn(double x, double y) {
  asm("" : "+x"(x), "+x"(y));
  return x + y;
}
__forceinline__ unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
__forceinline__ int __float_as_int(float x) { return std::bit_cast<int>(x); }
__forceinline__ float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
__forceinline__ float __int_as_float(int x) { return std::bit_cast<float>(x); }
__forceinline__ long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
__forceinline__ double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }
__forceinline__ float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
__forceinline__ float __int2float_rn(int x) { return static_cast<float>(x); }
__forceinline__ int __float2int_rn(float x) { return static_cast<int>(lrintf(x)); }
__forceinline__ int __float2int_rd(float x) { return static_cast<int>(floorf(x)); }
__forceinline__ int __popc(unsigned x) { return __builtin_popcount(x); }
__forceinline__ int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
__forceinline__ int __clz(int x) { return x == 0 ? 32 : __builtin_clz(static_cast<unsigned>(x)); }
__forceinline__ int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(x)); }
__forceinline__ int __ffs(int x) { return __builtin_ffs(x); }
__forceinline__ int __ffsll(long long x) { return __builtin_ffsll(x); }
__forceinline__ unsigned __umulhi(unsigned x, unsigned y) { return static_cast<unsigned>(uint64_t{x} * y >> 32); }
__forceinline__ unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
  return static_cast<unsigned long long>(static_cast<unsigned __int128>(x) * y >> 64);
}
