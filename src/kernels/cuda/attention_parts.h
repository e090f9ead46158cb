#pragma once
// What the attention kernels share on the device, besides tiles: the arguments as kernels take them, the rows of a warp
// and the running softmax.
#include <cmath>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/attention_checks.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/tile.h"

namespace gato::kernels::cuda {

inline constexpr int kAttentionWarps = 4;
inline constexpr int kAttentionThreads = kAttentionWarps * kWarpSize;
inline constexpr float kMaskedScore = -INFINITY;
inline constexpr float kLogTwo = 0.6931471805599453f;
inline constexpr float kLog2E = 1.4426950408889634f;

/// A HeadsView of one element type.
template <class T>
struct Heads {
  T* data;
  int64_t row_stride, head_stride;
  int token_stride;

  [[nodiscard]] __device__ __forceinline__ T* head(int row, int head) const {
    return data + row * row_stride + head * head_stride;
  }
};

template <class T, class Pointer>
Heads<T> typed_heads(const HeadsViewOf<Pointer>& view) {
  return {static_cast<T*>(view.data), view.row_stride, view.head_stride, static_cast<int>(view.token_stride)};
}

inline Rotary device_rotary(const RotaryView& rotary) {
  return {rotary.cosine, rotary.sine, static_cast<int>(rotary.positions) - 1};
}

/// body(T{}) with the device's type of an element kind that was checked.
template <class Body>
void with_half_type(Element element, Body body) {
  if (element == Element::kBFloat16) return body(BFloat16{});
  body(Float16{});
}

__device__ __forceinline__ int warp_min(int value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    value = min(value, __shfl_xor_sync(kFullMask, value, distance));
  }
  return value;
}

__device__ __forceinline__ int warp_max(int value) {
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    value = max(value, __shfl_xor_sync(kFullMask, value, distance));
  }
  return value;
}

/// The smallest start of tokens [first, end), which are at most kQueries.
template <int kQueries>
__device__ __forceinline__ int smallest_start(const int32_t* starts, int first, int end) {
  int smallest = end;
#pragma unroll
  for (int i = 0; i < kQueries; i += kWarpSize) {
    const int token = first + i + static_cast<int>(threadIdx.x) % kWarpSize;
    if (token < end) smallest = min(smallest, max(starts[token], 0));
  }
  return warp_min(smallest);
}

/// Over the four lanes that hold one row of mma sums.
__device__ __forceinline__ float row_max(float value) {
  value = fmaxf(value, __shfl_xor_sync(kFullMask, value, 1));
  return fmaxf(value, __shfl_xor_sync(kFullMask, value, 2));
}

__device__ __forceinline__ float row_sum(float value) {
  value += __shfl_xor_sync(kFullMask, value, 1);
  return value + __shfl_xor_sync(kFullMask, value, 2);
}

/// Positions of the tokens of a tile inside their sequences, for TileCopy::rotate. Always inside the table.
struct TilePositions {
  const int32_t* starts;  ///< Of the row's sequences.
  int first;              ///< First token of the tile.
  int last_position;

  __device__ __forceinline__ int operator()(int row) const {
    const int token = first + row;
    return min(max(token - max(starts[token], 0), 0), last_position);
  }
};

/// Which keys the 16 kRowTiles query tokens [first, ...) of a warp see: token t sees [start(t), t]. A lane holds the
/// starts of its rows of mma sums: first + 16 m + 8 half + lane / 4.
template <int kRowTiles>
struct QueryRows {
  int first;      ///< First token.
  int last;       ///< Last token that exists; below `first` where none does.
  int first_key;  ///< Smallest start of the rows that exist.
  int start_max;  ///< Largest start; INT_MAX when a row is missing.
  int start[kRowTiles][2];

  /// Reads the starts of tokens [first, end) of a row.
  __device__ __forceinline__ void load(const int32_t* starts, int first_token, int end) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    const int in_tile = lane % (16 * kRowTiles);
    constexpr int kNone = 0x7fffffff;
    first = first_token;
    last = min(first + 16 * kRowTiles, end) - 1;
    const int own = first + in_tile < end ? max(starts[first + in_tile], 0) : kNone;
    first_key = warp_min(own);
    start_max = warp_max(own);
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      start[m][0] = __shfl_sync(kFullMask, own, 16 * m + lane / 4);
      start[m][1] = __shfl_sync(kFullMask, own, 16 * m + 8 + lane / 4);
    }
  }

  /// Tokens [first_token, last_token] of one sequence that begins at 0.
  __device__ __forceinline__ void set(int first_token, int last_token) {
    first = first_token;
    last = min(first + 16 * kRowTiles - 1, last_token);
    first_key = start_max = 0;
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) start[m][0] = start[m][1] = 0;
  }

  /// Whether some row may see one of the keys [key, key + keys).
  [[nodiscard]] __device__ __forceinline__ bool sees_some(int key, int keys) const {
    return key <= last && key + keys > first_key;
  }
  /// Whether every row sees all of them.
  [[nodiscard]] __device__ __forceinline__ bool sees_all(int key, int keys) const {
    return key + keys - 1 <= first && key >= start_max;
  }
  /// Sets the scores of keys that a row does not see to `value`; the first column is `key`.
  template <int kKeys>
  __device__ __forceinline__ void mask(int key, float value, float (&scores)[kRowTiles][kKeys / 8][4]) const {
    const int lane = forgotten(static_cast<int>(threadIdx.x)) % kWarpSize;
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        // First and last key that the row sees, counted from the lane's first column: compared with constants below.
        const int lane_key = key + 2 * (lane % 4);
        const int first_seen = start[m][half] - lane_key;
        const int last_seen = first + 16 * m + 8 * half + lane / 4 - lane_key;
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
          for (int j = 0; j < 2; ++j) {
            if (8 * n + j > last_seen || 8 * n + j < first_seen) scores[m][n][2 * half + j] = value;
          }
        }
      }
    }
  }
};

/// Softmax over keys that come in tiles, after Milakov and Gimelshein 2018 ("Online normalizer calculation for
/// softmax") and Dao 2023 ("FlashAttention-2", section 3.1): weighted values relative to the largest score so far.
template <class T, int kDim, int kRowTiles>
struct OnlineSoftmax {
  float values[kRowTiles][kDim / 8][4];
  float top[kRowTiles][2];    ///< Largest score times the scale, in powers of two; the same in the four lanes of a row.
  float total[kRowTiles][2];  ///< This lane's part of the sum of weights.

  __device__ __forceinline__ void clear() {
    set_zero<kRowTiles, kDim>(values);
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      top[m][0] = top[m][1] = kMaskedScore;
      total[m][0] = total[m][1] = 0.0f;
    }
  }

  /// Adds kKeys keys: their scores (before scaling, masked ones minus infinity; destroyed) and their values, rows
  /// [first_row, ...) of a tile.
  template <int kKeys>
  __device__ __forceinline__ void add(float (&scores)[kRowTiles][kKeys / 8][4], float scale_log2, const T* value_tile,
                                      int first_row) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) weigh<kKeys>(scores[m], scale_log2, m, half);
    }
    uint32_t weights[kRowTiles][kKeys / 16][4];
    pack_operand<T, kRowTiles, kKeys>(scores, weights);
    multiply_add<T, kDim, kRowTiles, kKeys>(weights, value_tile, first_row, values);
  }

  /// Sums the parts of `total` over a row's lanes; call once, after the last key.
  __device__ __forceinline__ void finish() {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      total[m][0] = row_sum(total[m][0]);
      total[m][1] = row_sum(total[m][1]);
    }
  }

 private:
  /// Turns the scores of one row into weights, and what was summed before to the new largest score.
  template <int kKeys>
  __device__ __forceinline__ void weigh(float (&scores)[kKeys / 8][4], float scale_log2, int m, int half) {
    float largest = kMaskedScore;
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n) {
      largest = fmaxf(largest, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
    }
    const float next = fmaxf(top[m][half], row_max(largest) * scale_log2);
    const float shift = next == kMaskedScore ? 0.0f : next;  // nothing seen yet: no infinity minus infinity
    const float correction = exp2_approx(top[m][half] - shift);
    top[m][half] = next;
    float sum = total[m][half] * correction;
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
      for (int i = 2 * half; i < 2 * half + 2; ++i) {
        scores[n][i] = exp2_approx(fmaf(scores[n][i], scale_log2, -shift));
        sum += scores[n][i];
      }
    }
    total[m][half] = sum;
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
      values[m][n][2 * half] *= correction;
      values[m][n][2 * half + 1] *= correction;
    }
  }
};

/// Lets a warp's queries, rows [warp_row, ...) of `query_tile`, attend to keys [first_key, end) that come in tiles of
/// kKeys: copy(key, stage) starts copying keys and values [key, key + kKeys) to key_tiles + stage * 2 * kKeys * kDim,
/// one after the other, and rotate(key, stage) rotates what this thread has copied. Of each tile the warp takes the
/// columns [first_column, first_column + kColumns). All threads of the block call; the first tile's copies are complete
/// for the threads that made them, and none is under way on return.
template <int kKeys, int kColumns, class T, int kDim, int kRowTiles, class Copy, class Rotate>
__device__ __forceinline__ void attend(OnlineSoftmax<T, kDim, kRowTiles>& softmax, const QueryRows<kRowTiles>& rows,
                                       float scale_log2, const T* query_tile, int warp_row, const T* key_tiles,
                                       int first_column, int first_key, int end, Copy copy, Rotate rotate) {
  for (int key = first_key, stage = 0; key < end; key += kKeys, stage ^= 1) {
    const T* key_tile = key_tiles + stage * 2 * kKeys * kDim;
    rotate(key, stage);
    __syncthreads();
    if (key + kKeys < end) copy(key + kKeys, stage ^ 1);
    cp_async_commit();
    const int column = key + first_column;
    if (rows.sees_some(column, kColumns)) {
      float scores[kRowTiles][kColumns / 8][4];
      multiply_transposed<T, kDim, kRowTiles, kColumns>(query_tile, warp_row, key_tile, first_column, scores);
      if (!rows.sees_all(column, kColumns)) rows.template mask<kColumns>(column, kMaskedScore, scores);
      softmax.template add<kColumns>(scores, scale_log2, key_tile + kKeys * kDim, first_column);
    }
    cp_async_wait<0>();
  }
}

/// Log-sum-exp of a row and what its weighted values are to be multiplied with, from OnlineSoftmax's top and total.
__device__ __forceinline__ float log_sum_exp(float top, float total) {
  return total > 0.0f ? (top + log2f(total)) * kLogTwo : kMaskedScore;
}
__device__ __forceinline__ float inverse_total(float total) { return total > 0.0f ? 1.0f / total : 0.0f; }

/// Writes results of a warp's rows, by way of its own rows of `tile`, and their log-sum-exps unless `log_sums` is null:
/// those of tokens [first, ...) below `tokens`.
template <class T, int kDim, int kRowTiles>
__device__ __forceinline__ void write_rows(OnlineSoftmax<T, kDim, kRowTiles>& softmax, T* tile, int first_row, T* out,
                                           int out_stride, float* log_sums, int first, int tokens) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  float factor[kRowTiles][2];
  softmax.finish();
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float total = softmax.total[m][half];
      const int token = first + 16 * m + 8 * half + lane / 4;
      factor[m][half] = inverse_total(total);
      if (log_sums != nullptr && lane % 4 == 0 && token < tokens) {
        log_sums[token] = log_sum_exp(softmax.top[m][half], total);
      }
    }
  }
  put_rows<T, kDim, kRowTiles>(softmax.values, factor, tile, first_row);
  __syncwarp();
  store_rows<T, kDim, 16 * kRowTiles>(tile, first_row, out, out_stride, first, tokens);
}

}  // namespace gato::kernels::cuda
