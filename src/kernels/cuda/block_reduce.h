#pragma once
// Reductions over the threads of a block in a fixed order: same bits every time, and the same in every thread. Device.
#include "kernels/cuda/device.h"

namespace gato::kernels::cuda {

/// Warps that the largest block has; what a scratch array of a reduction must hold.
inline constexpr int kMaxWarps = 32;

struct Sum {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Minimum {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return b < a ? b : a;
  }
};
struct Maximum {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return b > a ? b : a;
  }
};

/// `combine` over the lanes of a warp (commutative; T of 4 or 8 bytes); every lane gets the result.
template <class T, class Combine>
__device__ __forceinline__ T warp_reduce(T value, Combine combine) {
#pragma unroll
  for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
    value = combine(value, __shfl_xor_sync(kFullMask, value, distance));
  }
  return value;
}

/// The warps' results of a block, of which each thread has `value`, combined in the order of the warps. `scratch` is
/// shared memory for kMaxWarps values, which nothing else may touch between the barriers before and after this call.
/// One __syncthreads(). Whole warps only.
template <class T, class Combine>
__device__ __forceinline__ T block_reduce(T value, T* scratch, Combine combine) {
  const unsigned warp = threadIdx.x / kWarpSize;
  value = warp_reduce(value, combine);
  if (threadIdx.x % kWarpSize == 0) scratch[warp] = value;
  __syncthreads();
  T total = scratch[0];
  for (unsigned w = 1; w < blockDim.x / kWarpSize; ++w) total = combine(total, scratch[w]);
  return total;
}

/// Replaces `a` and `b` by their sums over the block, with one barrier for both. `scratch`: 2 kMaxWarps values, as
/// above.
__device__ __forceinline__ void block_sum_pair(float& a, float& b, float* scratch) {
  const unsigned warp = threadIdx.x / kWarpSize;
  a = warp_reduce(a, Sum{});
  b = warp_reduce(b, Sum{});
  if (threadIdx.x % kWarpSize == 0) {
    scratch[warp] = a;
    scratch[kMaxWarps + warp] = b;
  }
  __syncthreads();
  a = b = 0;
  for (unsigned w = 0; w < blockDim.x / kWarpSize; ++w) {
    a += scratch[w];
    b += scratch[kMaxWarps + w];
  }
}

/// Sum of the values of all threads before this one, in *total that of all. As block_reduce otherwise.
template <class T>
__device__ __forceinline__ T block_exclusive_sum(T value, T* scratch, T* total) {
  const unsigned lane = threadIdx.x % kWarpSize;
  const unsigned warp = threadIdx.x / kWarpSize;
  T inclusive = value;
#pragma unroll
  for (unsigned distance = 1; distance < kWarpSize; distance *= 2) {
    const T below = __shfl_up_sync(kFullMask, inclusive, distance);
    if (lane >= distance) inclusive += below;
  }
  if (lane == kWarpSize - 1) scratch[warp] = inclusive;
  __syncthreads();
  T before = 0;
  T all = 0;
  for (unsigned w = 0; w < blockDim.x / kWarpSize; ++w) {
    if (w == warp) before = all;
    all += scratch[w];
  }
  *total = all;
  return before + inclusive - value;
}

/// Reductions that may follow one another on 2 kMaxWarps values of shared memory: two sets take turns, so that each
/// needs one barrier. Whoever writes a set again has passed the barrier of the reduction between, when all had read the
/// set.
template <class T>
class BlockReducer {
 public:
  __device__ __forceinline__ explicit BlockReducer(T* scratch) : mine_(scratch), other_(scratch + kMaxWarps) {}

  template <class Combine>
  __device__ __forceinline__ T reduce(T value, Combine combine) {
    const T total = block_reduce(value, mine_, combine);
    turn();
    return total;
  }
  __device__ __forceinline__ T exclusive_sum(T value, T* total) {
    const T before = block_exclusive_sum(value, mine_, total);
    turn();
    return before;
  }

 private:
  __device__ __forceinline__ void turn() {
    T* const mine = mine_;
    mine_ = other_;
    other_ = mine;
  }
  T *mine_, *other_;
};

}  // namespace gato::kernels::cuda
