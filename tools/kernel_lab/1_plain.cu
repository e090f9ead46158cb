// Rung 1: a thread per query, which walks over its keys in global memory: once for the largest score, once more for the
// weights. Right, short, and slow: every query reads all keys before it from global memory, twice, and the threads of a
// warp read 32 different rows of queries and results at a time.
#include <cmath>

#include "kernel_lab/lab.h"
#include "kernels/cuda/device.h"

namespace gato::kernel_lab {
namespace {

using kernels::cuda::BFloat16;
using kernels::cuda::from_float;
using kernels::cuda::to_float;

constexpr int kThreads = 64;
constexpr float kScale = 0.125f;  // kHeadDim^-1/2

__device__ float score(const float (&query)[kHeadDim], const BFloat16* key) {
  float sum = 0;
  for (int d = 0; d < kHeadDim; ++d) sum += query[d] * to_float(key[d]);
  return sum * kScale;
}

__global__ void __launch_bounds__(kThreads)
    plain_kernel(const BFloat16* queries, const BFloat16* keys, const BFloat16* values, BFloat16* out, int tokens) {
  const int t = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
  if (t >= tokens) return;
  float query[kHeadDim];
  for (int d = 0; d < kHeadDim; ++d) query[d] = to_float(queries[t * kHeadDim + d]);
  float largest = -INFINITY;
  for (int j = 0; j <= t; ++j) largest = fmaxf(largest, score(query, keys + j * kHeadDim));
  float total = 0, sum[kHeadDim] = {};
  for (int j = 0; j <= t; ++j) {
    const float weight = expf(score(query, keys + j * kHeadDim) - largest);
    total += weight;
    for (int d = 0; d < kHeadDim; ++d) sum[d] += weight * to_float(values[j * kHeadDim + d]);
  }
  for (int d = 0; d < kHeadDim; ++d) out[t * kHeadDim + d] = from_float<BFloat16>(sum[d] / total);
}

}  // namespace

void attend_plain(const Attention& call, Stream stream) {
  if (call.tokens == 0) return;
  const auto blocks = static_cast<unsigned>((call.tokens + kThreads - 1) / kThreads);
  kernels::cuda::launch({"plain", blocks, kThreads, 0, stream}, plain_kernel, static_cast<const BFloat16*>(call.query),
                        static_cast<const BFloat16*>(call.key), static_cast<const BFloat16*>(call.value),
                        static_cast<BFloat16*>(call.out), call.tokens);
}

}  // namespace gato::kernel_lab
