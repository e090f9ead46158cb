// Rung 3: tensor cores. A warp takes 16 queries; one mma multiplies 16 x 16 by 16 x 8 numbers, 4096 multiplications and
// additions in one instruction. Its operands come from shared memory by ldmatrix, its sums stay in registers, in a
// layout (ptx.h) in which a lane holds two neighbouring columns of the rows lane / 4 and lane / 4 + 8:
//
//   scores [16, 64] = queries x keys^T    mask and softmax in that layout    rounded, they are the left operand of
//   values [16, 64] += weights x values   (four lanes hold a row: two shuffles find its maximum)
//
// Tiles are stored row after row, 128 bytes each: the eight rows that ldmatrix reads at once begin in the same bank,
// and shared memory hands them out one after the other. Look at its cycles per phase.
#include <cmath>

#include "kernel_lab/lab.h"
#include "kernels/cuda/device.h"

namespace gato::kernel_lab {
namespace {

using namespace kernels::cuda;

constexpr int kThreads = 128;
constexpr int kQueries = 64;                                // of a block, 16 per warp
constexpr int kKeys = 64;                                   // of a tile
constexpr float kScaleLog2 = 0.125f * 1.4426950408889634f;  // scores in powers of two: exp2 is the instruction

/// Sums of a warp: [columns / 8][4]. Elements 0, 1 are of row lane / 4, elements 2, 3 of the row eight below.
using Sums = float[8][4];

__device__ __forceinline__ const BFloat16* chunk_of(const BFloat16* tile, int row, int chunk) {
  return tile + row * kHeadDim + chunk * 8;
}

/// Rows [first, first + 64) of `from` to `tile`, zeros behind the last token.
__device__ void copy_tile(BFloat16* tile, const BFloat16* from, int first, int tokens) {
  constexpr int kChunks = kHeadDim / 8;
  for (int place = static_cast<int>(threadIdx.x); place < kKeys * kChunks; place += kThreads) {
    const int row = first + place / kChunks;
    const uint4 bits = row < tokens ? load16(chunk_of(from, row, place % kChunks)) : make_uint4(0, 0, 0, 0);
    store16(tile + place * 8, bits);
  }
}

/// scores = the warp's queries, rows [row, row + 16), x keys^T.
__device__ void multiply_keys(const BFloat16* query_tile, int row, const BFloat16* key_tile, Sums& scores) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  for (auto& column : scores) column[0] = column[1] = column[2] = column[3] = 0.0f;
#pragma unroll
  for (int k = 0; k < kHeadDim / 16; ++k) {
    uint32_t a[4];
    ldmatrix<4>(a, chunk_of(query_tile, row + lane % 16, 2 * k + lane / 16));
#pragma unroll
    for (int n = 0; n < kKeys / 16; ++n) {
      uint32_t b[4];
      ldmatrix<4>(b, chunk_of(key_tile, n * 16 + lane % 8 + lane / 16 * 8, 2 * k + lane / 8 % 2));
      mma_m16n8k16<BFloat16>(scores[2 * n], a, b[0], b[1]);
      mma_m16n8k16<BFloat16>(scores[2 * n + 1], a, b[2], b[3]);
    }
  }
}

/// values += weights x the tile of values. Weights, in the layout of sums, are the left operand once they are rounded.
__device__ void multiply_values(const Sums& weights, const BFloat16* value_tile, Sums& values) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
  for (int k = 0; k < kKeys / 16; ++k) {
    const float(&left)[4] = weights[2 * k];
    const float(&right)[4] = weights[2 * k + 1];
    const uint32_t a[4] = {pack2<BFloat16>(left[0], left[1]), pack2<BFloat16>(left[2], left[3]),
                           pack2<BFloat16>(right[0], right[1]), pack2<BFloat16>(right[2], right[3])};
#pragma unroll
    for (int n = 0; n < kHeadDim / 16; ++n) {
      uint32_t b[4];
      ldmatrix_trans<4>(b, chunk_of(value_tile, k * 16 + lane % 16, 2 * n + lane / 16));
      mma_m16n8k16<BFloat16>(values[2 * n], a, b[0], b[1]);
      mma_m16n8k16<BFloat16>(values[2 * n + 1], a, b[2], b[3]);
    }
  }
}

/// What the softmax of a lane's two rows knows so far.
struct Running {
  float largest[2] = {-INFINITY, -INFINITY};
  float total[2] = {0.0f, 0.0f};  // of this lane's columns

  /// Scores of keys from `key` on to weights, for the rows of queries `query` and `query` + 8; what was summed before
  /// is scaled down to the new maximum.
  __device__ void weigh(Sums& scores, int key, int query, Sums& values) {
    const int column = key + 2 * (static_cast<int>(threadIdx.x) % 4);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float top = largest[half];
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float& score = scores[n][2 * half + i];
          score = column + 8 * n + i <= query + 8 * half ? score * kScaleLog2 : -INFINITY;
          top = fmaxf(top, score);
        }
      }
      top = fmaxf(top, __shfl_xor_sync(kFullMask, top, 1));
      top = fmaxf(top, __shfl_xor_sync(kFullMask, top, 2));
      const float correction = exp2_approx(largest[half] - top);
      largest[half] = top;
      total[half] *= correction;
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          values[n][i] *= correction;
          scores[n][i] = exp2_approx(scores[n][i] - top);
          total[half] += scores[n][i];
        }
      }
    }
  }
};

__device__ void write_rows(const Sums& values, const Running& softmax, int query, BFloat16* out, int tokens) {
  const int pair = 2 * (static_cast<int>(threadIdx.x) % 4);
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float total = softmax.total[half];
    total += __shfl_xor_sync(kFullMask, total, 1);
    total += __shfl_xor_sync(kFullMask, total, 2);
    const int row = query + 8 * half;
    if (row >= tokens) continue;
#pragma unroll
    for (int n = 0; n < kHeadDim / 8; ++n) {
      *reinterpret_cast<uint32_t*>(out + row * kHeadDim + 8 * n + pair) =
          pack2<BFloat16>(values[n][2 * half] / total, values[n][2 * half + 1] / total);
    }
  }
}

__global__ void __launch_bounds__(kThreads) tensor_core_kernel(const BFloat16* queries, const BFloat16* keys,
                                                               const BFloat16* values, BFloat16* out, int tokens) {
  GATO_SHARED(BFloat16, query_tile, kQueries * kHeadDim);
  GATO_SHARED(BFloat16, key_tile, kKeys * kHeadDim);
  GATO_SHARED(BFloat16, value_tile, kKeys * kHeadDim);
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int first = static_cast<int>(blockIdx.x) * kQueries;
  const int warp_row = static_cast<int>(threadIdx.x) / kWarpSize * 16;
  const int query = first + warp_row + lane / 4;  // the first of the lane's two rows
  copy_tile(query_tile, queries, first, tokens);
  Running softmax;
  Sums sums = {};
  for (int key = 0; key < min(first + kQueries, tokens); key += kKeys) {
    copy_tile(key_tile, keys, key, tokens);
    copy_tile(value_tile, values, key, tokens);
    __syncthreads();
    Sums scores;
    multiply_keys(query_tile, warp_row, key_tile, scores);
    softmax.weigh(scores, key, query, sums);
    multiply_values(scores, value_tile, sums);
    __syncthreads();
  }
  write_rows(sums, softmax, query, out, tokens);
}

}  // namespace

void attend_with_tensor_cores(const Attention& call, Stream stream) {
  if (call.tokens == 0) return;
  const auto blocks = static_cast<unsigned>((call.tokens + kQueries - 1) / kQueries);
  launch({"tensor_cores", blocks, kThreads, 0, stream}, tensor_core_kernel, static_cast<const BFloat16*>(call.query),
         static_cast<const BFloat16*>(call.key), static_cast<const BFloat16*>(call.value),
         static_cast<BFloat16*>(call.out), call.tokens);
}

}  // namespace gato::kernel_lab
