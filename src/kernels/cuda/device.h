#pragma once
// The one header that a kernel file (.cu) includes for the device. The same source is compiled by nvcc for a GPU and by
// the host's compiler (GATO_CUDA_EMULATION) for tests/support/cuda_emulation, which runs it on a CPU and checks it.
//
// What a kernel may use
//   language     __global__ __device__ __forceinline__ __launch_bounds__, templates, lambdas, local arrays, constexpr
//                tables; threadIdx, blockIdx, blockDim, gridDim; dim3, int2..4, uint2..4, float2..4 and make_*
//   types        BFloat16, Float16: to_float(x), from_float<T>(x), pack2<T>(low, high), unpack2<T>(bits)
//   shared       GATO_SHARED(T, name, count);  GATO_DYNAMIC_SHARED(T, name);  never __shared__ itself
//   memory       plain loads and stores of 2, 4 and 8 bytes; __ldg; load8/load16/store8/store16 (ptx.h) for vectors
//   warp         __syncwarp() __shfl_sync __shfl_xor_sync __shfl_down_sync __shfl_up_sync (4 or 8 bytes) __ballot_sync
//                __any_sync __all_sync, with the full mask kFullMask; warp_sum, warp_max (ptx.h)
//   block        __syncthreads()
//   atomics      atomicAdd atomicMin atomicMax atomicExch atomicCAS atomicOr atomicAnd on int, unsigned and
//                unsigned long long. None on floats: sums would depend on the order of blocks
//   mathematics  the usual functions (expf, exp2f, logf, log2f, rsqrtf, fmaf, erff, tanhf, sincosf, fmaxf, ...), __expf
//                and its kin, __fmul_rn and its kin, __float_as_uint and its kin, __popc, __clz, __ffs, __umulhi
//   instructions mma_m16n8k16, ldmatrix_*, cp_async_*: ptx.h.   Host side: launch() in launch.h
//
// Rules, most of them checked by the emulator
//   - every lane of a warp reaches every warp operation; every thread of a block reaches every __syncthreads(): none
//     after an early return
//   - __syncwarp() or __syncthreads() between a lane's write to shared memory and another lane's read (or the reverse):
//     shuffles, votes and mma order no memory
//   - at most one synchronisation per source line (tools/kernel_mutations deletes them line by line)
//   - shared memory in units of two bytes and up; vectors of 8 and 16 bytes through the functions of ptx.h
//   - cp_async_wait<0>() before a thread ends; data of others also needs a barrier after the wait
//   - blocks are not ordered among themselves: no spinning, no reading of what another block of the launch wrote
//
// Every emulated instruction takes a defaulted argument more, the place it is called from: pass nothing for it.
#include <cstddef>
#include <cstdint>

#if defined(GATO_CUDA_EMULATION)
#include "cuda_emulation/language.h"
#elif defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#else
#error "kernels/cuda/device.h is for .cu files, compiled by nvcc or with GATO_CUDA_EMULATION"
#endif

namespace gato::kernels::cuda {

#if defined(GATO_CUDA_EMULATION)
using BFloat16 = cuda_emulation::BFloat16;
using Float16 = cuda_emulation::Float16;
#else
using BFloat16 = __nv_bfloat16;
using Float16 = __half;
#endif

inline constexpr int kWarpSize = 32;
inline constexpr unsigned kFullMask = 0xffffffffu;  ///< Every lane of a warp.

/// `name`: an array of `count` elements of type T in the block's shared memory, not initialised, 16-byte aligned.
/// T has no constructor; `count` is a constant.
#if defined(GATO_CUDA_EMULATION)
#define GATO_SHARED(T, name, count)             \
  static constexpr char name##_shared_tag_ = 0; \
  T(&name)                                      \
  [count] = *static_cast<T(*)[count]>(          \
      ::gato::cuda_emulation::static_shared(&name##_shared_tag_, #name, sizeof(T) * (count)))
#else
#define GATO_SHARED(T, name, count) __shared__ __align__(16) T name[count]
#endif

/// `name`: a `T*` to the dynamic shared memory that launch() was asked for, 128-byte aligned.
#if defined(GATO_CUDA_EMULATION)
#define GATO_DYNAMIC_SHARED(T, name) T* const name = static_cast<T*>(::gato::cuda_emulation::dynamic_shared())
#else
#define GATO_DYNAMIC_SHARED(T, name)                                           \
  extern __shared__ __align__(128) unsigned char gato_dynamic_shared_memory[]; \
  T* const name = reinterpret_cast<T*>(gato_dynamic_shared_memory)
#endif

// ---------------------------------------------------------------------------------------------- conversions

__device__ __forceinline__ float to_float(float value) { return value; }
#if defined(GATO_CUDA_EMULATION)
__device__ __forceinline__ float to_float(BFloat16 value) { return cuda_emulation::widen(value); }
__device__ __forceinline__ float to_float(Float16 value) { return cuda_emulation::widen(value); }
#else
__device__ __forceinline__ float to_float(BFloat16 value) { return __bfloat162float(value); }
__device__ __forceinline__ float to_float(Float16 value) { return __half2float(value); }
#endif

namespace detail {
template <class T>
struct Narrow;
template <>
struct Narrow<float> {
  static __device__ __forceinline__ float from(float value) { return value; }
};
#if defined(GATO_CUDA_EMULATION)
template <>
struct Narrow<BFloat16> {
  static BFloat16 from(float value) { return cuda_emulation::narrow_bfloat16(value); }
  static uint32_t pack(float low, float high) { return from(low).bits | uint32_t{from(high).bits} << 16; }
  static float2 unpack(uint32_t bits) {
    return {to_float(BFloat16{static_cast<uint16_t>(bits)}), to_float(BFloat16{static_cast<uint16_t>(bits >> 16)})};
  }
};
template <>
struct Narrow<Float16> {
  static Float16 from(float value) { return cuda_emulation::narrow_float16(value); }
  static uint32_t pack(float low, float high) { return from(low).bits | uint32_t{from(high).bits} << 16; }
  static float2 unpack(uint32_t bits) {
    return {to_float(Float16{static_cast<uint16_t>(bits)}), to_float(Float16{static_cast<uint16_t>(bits >> 16)})};
  }
};
#else
template <>
struct Narrow<BFloat16> {
  static __device__ __forceinline__ BFloat16 from(float value) { return __float2bfloat16_rn(value); }
  static __device__ __forceinline__ uint32_t pack(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&pair);
  }
  static __device__ __forceinline__ float2 unpack(uint32_t bits) {
    return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&bits));
  }
};
template <>
struct Narrow<Float16> {
  static __device__ __forceinline__ Float16 from(float value) { return __float2half_rn(value); }
  static __device__ __forceinline__ uint32_t pack(float low, float high) {
    const __half2 pair = __floats2half2_rn(low, high);
    return *reinterpret_cast<const uint32_t*>(&pair);
  }
  static __device__ __forceinline__ float2 unpack(uint32_t bits) {
    return __half22float2(*reinterpret_cast<const __half2*>(&bits));
  }
};
#endif
}  // namespace detail

/// `value` rounded to nearest even as a T (float, BFloat16 or Float16). NaN stays NaN; too large becomes infinity.
template <class T>
__device__ __forceinline__ T from_float(float value) {
  return detail::Narrow<T>::from(value);
}

/// Two values rounded to T (BFloat16 or Float16) in one register: `low` in bits 0..15, `high` in bits 16..31. In memory
/// `low` comes first. This is how the operands of mma hold neighbours in k.
template <class T>
__device__ __forceinline__ uint32_t pack2(float low, float high) {
  return detail::Narrow<T>::pack(low, high);
}

/// The inverse of pack2: {low, high}.
template <class T>
__device__ __forceinline__ float2 unpack2(uint32_t bits) {
  return detail::Narrow<T>::unpack(bits);
}

}  // namespace gato::kernels::cuda

#include "kernels/cuda/launch.h"  // launch: needs the language above
#include "kernels/cuda/ptx.h"     // instructions: need the types above
