#pragma once
// Every PTX instruction the kernels use, each behind a named function with its lane layout. Included by device.h.
// In the layouts lane is the thread's index in its warp, group = lane / 4, pair = 2 * (lane % 4). Products and ldmatrix
// are warp-wide: all 32 lanes must call. Source: PTX ISA, sections "mma.m16n8k16", "ldmatrix", "cp.async".

// A last parameter that callers leave out: under emulation, the place of the call, for reports.
#if defined(GATO_CUDA_EMULATION)
#define GATO_SITE ::gato::cuda_emulation::Site site = ::gato::cuda_emulation::Site::here()
#define GATO_AND_SITE , GATO_SITE
#else
#define GATO_SITE
#define GATO_AND_SITE
#endif

namespace gato::kernels::cuda {

#if !defined(GATO_CUDA_EMULATION)
namespace detail {
/// The 32-bit address inside shared memory that instructions take.
__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}
}  // namespace detail
#endif

// ------------------------------------------------------------------------------------------------ matrix products

/// d += a * b on tensor cores: a is 16x16 of T, b is 16x8 of T, d is 16x8 of float. T: BFloat16 or Float16. Registers,
/// low half first (pack2):
///   a[0] = A[group][pair, pair+1]        a[1] = A[group+8][pair, pair+1]
///   a[2] = A[group][pair+8, pair+9]      a[3] = A[group+8][pair+8, pair+9]
///   b0   = B[pair, pair+1][group]        b1   = B[pair+8, pair+9][group]
///   d[0], d[1] = D[group][pair, pair+1]  d[2], d[3] = D[group+8][pair, pair+1]
template <class T>
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                             uint32_t b1 GATO_AND_SITE) {
  constexpr bool kBFloat16 = sizeof(T) == 2 && !__is_same(T, Float16);
  static_assert(kBFloat16 ? __is_same(T, BFloat16) : __is_same(T, Float16), "BFloat16 or Float16");
#if defined(GATO_CUDA_EMULATION)
  const cuda_emulation::Float4 sum =
      cuda_emulation::mma_m16n8k16({{d[0], d[1], d[2], d[3]}}, {{a[0], a[1], a[2], a[3]}}, b0, b1, kBFloat16, site);
  for (int i = 0; i < 4; ++i) d[i] = sum.v[i];
#else
  if constexpr (kBFloat16) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
#endif
}

// ------------------------------------------------------------------------------------- fragments out of shared memory

/// Loads Count (1, 2 or 4) 8x8 matrices of 16-bit elements from shared memory. Lane 8 * i + r gives the address of row
/// r of matrix i: 16 bytes, 16-byte aligned (with fewer than 4 matrices the addresses of the lanes left over are
/// ignored). r[i] = matrix i [group][pair, pair+1]: an operand a (row-major) or b (stored as its transpose, rows are n)
/// of mma.
template <int Count>
__device__ __forceinline__ void ldmatrix(uint32_t (&r)[Count], const void* row GATO_AND_SITE) {
  static_assert(Count == 1 || Count == 2 || Count == 4);
#if defined(GATO_CUDA_EMULATION)
  const cuda_emulation::Uint4 loaded = cuda_emulation::ldmatrix(row, Count, false, site);
  for (int i = 0; i < Count; ++i) r[i] = loaded.v[i];
#else
  const uint32_t address = detail::shared_address(row);
  if constexpr (Count == 1) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];\n" : "=r"(r[0]) : "r"(address) : "memory");
  } else if constexpr (Count == 2) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];\n"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  }
#endif
}

/// The same with each matrix transposed on the way: r[i] = matrix i [pair, pair+1][group] (low half: row pair). An
/// operand b that is stored as it stands (rows are k), or an operand a stored as its transpose.
template <int Count>
__device__ __forceinline__ void ldmatrix_trans(uint32_t (&r)[Count], const void* row GATO_AND_SITE) {
  static_assert(Count == 1 || Count == 2 || Count == 4);
#if defined(GATO_CUDA_EMULATION)
  const cuda_emulation::Uint4 loaded = cuda_emulation::ldmatrix(row, Count, true, site);
  for (int i = 0; i < Count; ++i) r[i] = loaded.v[i];
#else
  const uint32_t address = detail::shared_address(row);
  if constexpr (Count == 1) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];\n" : "=r"(r[0]) : "r"(address) : "memory");
  } else if constexpr (Count == 2) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];\n"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  }
#endif
}

// ------------------------------------------------------------------------------------------ asynchronous copies

/// Starts copying `source_bytes` (0..Bytes) bytes from global to shared memory and zeros for the rest of Bytes (4, 8 or
/// 16); both addresses are multiples of Bytes, also where nothing is read. Nothing may touch the destination until this
/// thread's cp_async_wait, and other threads also need a barrier after it. 16 bytes bypass the L1 cache. Not warp-wide.
template <int Bytes>
__device__ __forceinline__ void cp_async(void* shared, const void* global, int source_bytes = Bytes GATO_AND_SITE) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
#if defined(GATO_CUDA_EMULATION)
  cuda_emulation::cp_async(shared, global, Bytes, source_bytes, site);
#else
  if constexpr (Bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(detail::shared_address(shared)), "l"(global),
                 "r"(source_bytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;\n" ::"r"(detail::shared_address(shared)), "l"(global),
                 "n"(Bytes), "r"(source_bytes)
                 : "memory");
  }
#endif
}

__device__ __forceinline__ void cp_async_16(void* shared, const void* global, int source_bytes = 16 GATO_AND_SITE) {
#if defined(GATO_CUDA_EMULATION)
  cp_async<16>(shared, global, source_bytes, site);
#else
  cp_async<16>(shared, global, source_bytes);
#endif
}

/// Closes this thread's group of copies started since the last commit (which may be empty). Not warp-wide.
__device__ __forceinline__ void cp_async_commit(GATO_SITE) {
#if defined(GATO_CUDA_EMULATION)
  cuda_emulation::cp_async_commit(site);
#else
  asm volatile("cp.async.commit_group;\n" ::: "memory");
#endif
}

/// Waits until at most `Pending` of this thread's committed groups, the newest, are still under way. Not warp-wide.
template <int Pending>
__device__ __forceinline__ void cp_async_wait(GATO_SITE) {
#if defined(GATO_CUDA_EMULATION)
  cuda_emulation::cp_async_wait(Pending, site);
#else
  asm volatile("cp.async.wait_group %0;\n" ::"n"(Pending) : "memory");
#endif
}

// ---------------------------------------------------------------------------------------------- vector accesses

/// 16 bytes from global or shared memory; `pointer` is a multiple of 16. In register order x, y, z, w. Not warp-wide,
/// nor are the others below.
__device__ __forceinline__ uint4 load16(const void* pointer GATO_AND_SITE) {
#if defined(GATO_CUDA_EMULATION)
  const cuda_emulation::Uint4 r = cuda_emulation::load(pointer, 16, site);
  return make_uint4(r.v[0], r.v[1], r.v[2], r.v[3]);
#else
  return *static_cast<const uint4*>(pointer);
#endif
}

/// 8 bytes; `pointer` is a multiple of 8.
__device__ __forceinline__ uint2 load8(const void* pointer GATO_AND_SITE) {
#if defined(GATO_CUDA_EMULATION)
  const cuda_emulation::Uint4 r = cuda_emulation::load(pointer, 8, site);
  return make_uint2(r.v[0], r.v[1]);
#else
  return *static_cast<const uint2*>(pointer);
#endif
}

/// 16 bytes of global memory that this kernel reads once: evicted first from the caches (ld.global.cs).
__device__ __forceinline__ uint4 load16_streaming(const void* pointer GATO_AND_SITE) {
#if defined(GATO_CUDA_EMULATION)
  return load16(pointer, site);
#else
  return __ldcs(static_cast<const uint4*>(pointer));
#endif
}

__device__ __forceinline__ void store16(void* pointer, uint4 value GATO_AND_SITE) {
#if defined(GATO_CUDA_EMULATION)
  cuda_emulation::store(pointer, 16, {{value.x, value.y, value.z, value.w}}, site);
#else
  *static_cast<uint4*>(pointer) = value;
#endif
}

__device__ __forceinline__ void store8(void* pointer, uint2 value GATO_AND_SITE) {
#if defined(GATO_CUDA_EMULATION)
  cuda_emulation::store(pointer, 8, {{value.x, value.y, 0, 0}}, site);
#else
  *static_cast<uint2*>(pointer) = value;
#endif
}

/// 16 bytes to global memory that nobody reads soon (st.global.cs).
__device__ __forceinline__ void store16_streaming(void* pointer, uint4 value GATO_AND_SITE) {
#if defined(GATO_CUDA_EMULATION)
  store16(pointer, value, site);
#else
  __stcs(static_cast<uint4*>(pointer), value);
#endif
}

// ---------------------------------------------------------------------------------------------- fast mathematics

/// 2^x to 2 units in the last place, subnormal results flushed to zero (ex2.approx.ftz.f32). exp2_approx(-inf) = 0.
__device__ __forceinline__ float exp2_approx(float x) {
#if defined(GATO_CUDA_EMULATION)
  return exp2f(x);
#else
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
#endif
}

// ---------------------------------------------------------------------------------------------- registers

/// `value`, of which the compiler then knows nothing more: what a loop computes from it is computed there each time,
/// not kept in registers across the loop.
__device__ __forceinline__ int forgotten(int value) {
#if !defined(GATO_CUDA_EMULATION)
  asm volatile("" : "+r"(value));
#endif
  return value;
}

// ---------------------------------------------------------------------------------------------- over a warp

/// Sum over the warp's 32 lanes, the same bits in every lane. All lanes must call.
__device__ __forceinline__ float warp_sum(float value GATO_AND_SITE) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
#if defined(GATO_CUDA_EMULATION)
    value += __shfl_xor_sync(kFullMask, value, distance, kWarpSize, site);
#else
    value += __shfl_xor_sync(kFullMask, value, distance);
#endif
  }
  return value;
}

/// Largest value over the warp's 32 lanes. All lanes must call.
__device__ __forceinline__ float warp_max(float value GATO_AND_SITE) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
#if defined(GATO_CUDA_EMULATION)
    value = fmaxf(value, __shfl_xor_sync(kFullMask, value, distance, kWarpSize, site));
#else
    value = fmaxf(value, __shfl_xor_sync(kFullMask, value, distance));
#endif
  }
  return value;
}

}  // namespace gato::kernels::cuda
