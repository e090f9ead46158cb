// Rung 2: the threads of a block share tiles of keys and values in shared memory, and the softmax runs along, so that
// each key is read once per block of queries instead of twice per query:
//
//   for every tile of 32 keys     copy it to shared memory, 16 bytes per thread and access | barrier
//                                 scores -> larger maximum? scale down what was summed | add weights x values | barrier
//
// All lanes read the same key at the same time, which shared memory hands out at once. What is left is arithmetic: one
// multiplication and addition per instruction and lane.
#include <cmath>

#include "kernel_lab/lab.h"
#include "kernels/cuda/device.h"

namespace gato::kernel_lab {
namespace {

using kernels::cuda::BFloat16;
using kernels::cuda::load16;
using kernels::cuda::pack2;
using kernels::cuda::store16;
using kernels::cuda::unpack2;

constexpr int kThreads = 64;  // a query each
constexpr int kKeys = 32;     // of a tile
constexpr int kPairs = kHeadDim / 2;
constexpr float kScale = 0.125f;

/// Rows [first, first + kKeys) of `from` to `tile`, zeros behind the last token.
__device__ void copy_tile(BFloat16* tile, const BFloat16* from, int first, int tokens) {
  constexpr int kChunks = kHeadDim / 8;  // of 16 bytes, per row
  for (int place = static_cast<int>(threadIdx.x); place < kKeys * kChunks; place += kThreads) {
    const int row = first + place / kChunks;
    const uint4 bits = row < tokens ? load16(from + row * kHeadDim + place % kChunks * 8) : make_uint4(0, 0, 0, 0);
    store16(tile + place * 8, bits);
  }
}

__device__ __forceinline__ float2 pair_of(const BFloat16* row, int pair) {
  return unpack2<BFloat16>(reinterpret_cast<const uint32_t*>(row)[pair]);
}

__global__ void __launch_bounds__(kThreads)
    tiled_kernel(const BFloat16* queries, const BFloat16* keys, const BFloat16* values, BFloat16* out, int tokens) {
  GATO_SHARED(BFloat16, key_tile, kKeys * kHeadDim);
  GATO_SHARED(BFloat16, value_tile, kKeys * kHeadDim);
  const int t = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  const int end = min((static_cast<int>(blockIdx.x) + 1) * kThreads, tokens);  // behind the block's last query
  float2 query[kPairs];
  float2 sum[kPairs];
  for (int i = 0; i < kPairs; ++i) {
    query[i] = t < tokens ? pair_of(queries + t * kHeadDim, i) : make_float2(0, 0);
    sum[i] = make_float2(0, 0);
  }
  float largest = -INFINITY, total = 0;
  for (int first = 0; first < end; first += kKeys) {
    copy_tile(key_tile, keys, first, tokens);
    copy_tile(value_tile, values, first, tokens);
    __syncthreads();
    float scores[kKeys];
    float top = largest;
    for (int j = 0; j < kKeys; ++j) {
      float product = 0;
      for (int i = 0; i < kPairs; ++i) {
        const float2 key = pair_of(key_tile + j * kHeadDim, i);
        product += query[i].x * key.x + query[i].y * key.y;
      }
      scores[j] = first + j <= t ? product * kScale : -INFINITY;
      top = fmaxf(top, scores[j]);
    }
    const float correction =
        expf(largest - top);  // key 0 is seen by all, so that `top` is finite from the first tile on
    largest = top;
    total *= correction;
    for (int i = 0; i < kPairs; ++i) sum[i] = make_float2(sum[i].x * correction, sum[i].y * correction);
    for (int j = 0; j < kKeys; ++j) {
      const float weight = expf(scores[j] - largest);
      total += weight;
      for (int i = 0; i < kPairs; ++i) {
        const float2 value = pair_of(value_tile + j * kHeadDim, i);
        sum[i].x += weight * value.x;
        sum[i].y += weight * value.y;
      }
    }
    __syncthreads();
  }
  if (t >= tokens) return;
  uint32_t* to = reinterpret_cast<uint32_t*>(out + t * kHeadDim);
  for (int i = 0; i < kPairs; ++i) to[i] = pack2<BFloat16>(sum[i].x / total, sum[i].y / total);
}

}  // namespace

void attend_tiled(const Attention& call, Stream stream) {
  if (call.tokens == 0) return;
  const auto blocks = static_cast<unsigned>((call.tokens + kThreads - 1) / kThreads);
  kernels::cuda::launch({"tiled", blocks, kThreads, 0, stream}, tiled_kernel, static_cast<const BFloat16*>(call.query),
                        static_cast<const BFloat16*>(call.key), static_cast<const BFloat16*>(call.value),
                        static_cast<BFloat16*>(call.out), call.tokens);
}

}  // namespace gato::kernel_lab
