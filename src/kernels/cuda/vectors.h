#pragma once
// Neighbouring elements as short vectors of floats: how the streaming kernels load and store. For .cu files.
#include "kernels/cuda/device.h"

// The caller's place handed on, so that reports of the emulator name the kernel's line.
#if defined(GATO_CUDA_EMULATION)
#define GATO_PASS_SITE , site
#else
#define GATO_PASS_SITE
#endif

namespace gato::kernels::cuda {

/// `kCount` neighbouring elements of a row, widened to floats.
template <int kCount>
struct Floats {
  float v[kCount];
};

/// Elements that fill 16 bytes.
template <class T>
inline constexpr int kFullVector = static_cast<int>(16 / sizeof(T));

namespace detail {

template <class T>
__device__ __forceinline__ void unpack(uint32_t bits, float* to) {
  if constexpr (sizeof(T) == 4) {
    to[0] = __uint_as_float(bits);
  } else {
    const float2 pair = unpack2<T>(bits);
    to[0] = pair.x;
    to[1] = pair.y;
  }
}

template <class T>
__device__ __forceinline__ uint32_t pack(const float* from) {
  if constexpr (sizeof(T) == 4) {
    return __float_as_uint(from[0]);
  } else {
    return pack2<T>(from[0], from[1]);
  }
}

}  // namespace detail

/// Loads kCount elements in one access of 16 or 8 bytes, to which `from` must be aligned; or, for kCount 1, one
/// element.
template <int kCount, class T>
__device__ __forceinline__ Floats<kCount> load_floats(const T* from GATO_AND_SITE) {
  constexpr int kPerWord = static_cast<int>(4 / sizeof(T));
  Floats<kCount> result;
  if constexpr (kCount == 1) {
    result.v[0] = to_float(*from);
  } else if constexpr (kCount * sizeof(T) == 16) {
    const uint4 bits = load16(from GATO_PASS_SITE);
    detail::unpack<T>(bits.x, result.v);
    detail::unpack<T>(bits.y, result.v + kPerWord);
    detail::unpack<T>(bits.z, result.v + 2 * kPerWord);
    detail::unpack<T>(bits.w, result.v + 3 * kPerWord);
  } else {
    static_assert(kCount * sizeof(T) == 8, "16 or 8 bytes");
    const uint2 bits = load8(from GATO_PASS_SITE);
    detail::unpack<T>(bits.x, result.v);
    detail::unpack<T>(bits.y, result.v + kPerWord);
  }
  return result;
}

/// The inverse of load_floats: rounds to T and stores in one access.
template <int kCount, class T>
__device__ __forceinline__ void store_floats(T* to, const Floats<kCount>& value GATO_AND_SITE) {
  constexpr int kPerWord = static_cast<int>(4 / sizeof(T));
  if constexpr (kCount == 1) {
    *to = from_float<T>(value.v[0]);
  } else if constexpr (kCount * sizeof(T) == 16) {
    store16(to, make_uint4(detail::pack<T>(value.v), detail::pack<T>(value.v + kPerWord),
                           detail::pack<T>(value.v + 2 * kPerWord), detail::pack<T>(value.v + 3 * kPerWord))
                    GATO_PASS_SITE);
  } else {
    static_assert(kCount * sizeof(T) == 8, "16 or 8 bytes");
    store8(to, make_uint2(detail::pack<T>(value.v), detail::pack<T>(value.v + kPerWord)) GATO_PASS_SITE);
  }
}

/// A number of elements known when compiling: what for_elements calls its body with.
template <int kNumber>
struct Count {
  static constexpr int kValue = kNumber;
};

/// Elements of a sector of memory, where for_elements lets its vectors begin, so that a warp's do not straddle one
/// more.
template <int kCount>
inline constexpr int kBoundary = kCount == 1 ? 1 : 2 * kCount;

/// Divides elements [0, count) among the threads of a block: body(i, Count<kCount>{}) for kCount elements from i on,
/// the first of which lies at a boundary, and body(i, Count<1>{}) for the few before the first and behind the last of
/// those. `misaligned`: elements from a boundary to element 0, modulo kBoundary<kCount>.
template <int kCount, class Body>
__device__ __forceinline__ void for_elements(int misaligned, int64_t count, const Body& body) {
  const int64_t to_boundary = (kBoundary<kCount> - misaligned) % kBoundary<kCount>;
  const int64_t head = to_boundary < count ? to_boundary : count;
  const int64_t vectors = (count - head) / kCount;
  const int64_t tail = head + vectors * kCount;
  const auto thread = static_cast<int64_t>(threadIdx.x);
  if (thread < head) body(thread, Count<1>{});
  for (int64_t i = thread; i < vectors; i += blockDim.x) body(head + i * kCount, Count<kCount>{});
  if (tail + thread < count) body(tail + thread, Count<1>{});
}

/// Elements of T from the sector boundary at or below `pointer` to `pointer`.
template <class T>
__device__ __forceinline__ int misalignment(const T* pointer) {
  return static_cast<int>(reinterpret_cast<uintptr_t>(pointer) % 32 / sizeof(T));
}

/// kCount times `value`.
template <int kCount>
__device__ __forceinline__ Floats<kCount> all_of(float value) {
  Floats<kCount> result;
#pragma unroll
  for (int k = 0; k < kCount; ++k) result.v[k] = value;
  return result;
}

template <int kCount>
__device__ __forceinline__ void add_to(Floats<kCount>& sum, const Floats<kCount>& value) {
#pragma unroll
  for (int k = 0; k < kCount; ++k) sum.v[k] += value.v[k];
}

template <int kCount>
__device__ __forceinline__ float sum_of(const Floats<kCount>& value) {
  float total = 0;
#pragma unroll
  for (int k = 0; k < kCount; ++k) total += value.v[k];
  return total;
}

}  // namespace gato::kernels::cuda
