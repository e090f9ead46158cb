// Attention backward, deterministic: every sum belongs to one thread, so the weights are computed twice, once for the
// gradients of keys and values and once for that of queries, instead of being added up by atomics. Four kernels:
//
//   query_ends    per tile of keys, the last query that sees one of them: what the third kernel need not visit
//   numbers       per query, its log-sum-exp in powers of two and delta = <gradient of the result, result>, which is
//   the
//                 mean that softmax's backward takes off
//   keys          a block has a tile of keys and values and walks over the queries that see them
//   queries       a block has a tile of queries and walks over the keys that they see, as in forward
//
// With P the weights, dP = dO V^T and dS = P (dP - delta), all of them one tile at a time in registers:
//   dV = P^T dO    dK = scale dS^T Q    dQ = scale dS K.
// The keys kernel computes the transposes S^T = K Q^T and dP^T = V dO^T, so that P^T and dS^T leave one product of the
// tensor cores in the layout in which they enter the next, without passing through shared memory. Source of the
// formulas: Dao 2023, "FlashAttention-2", algorithm 2. Queries and keys are rotated as tiles arrive; their gradients
// are rotated back before they are written.
#include "kernels/cuda/attention_parts.h"
#include "kernels/cuda/device.h"

namespace gato::kernels::cuda {
namespace {

constexpr int kNoToken = 0x7fffffff;

/// What backward needs to know of a query, as a float2: x, its log-sum-exp in powers of two; y, its delta.
using QueryNumbers = float2;

/// Tile sizes of the keys kernel. Two row tiles per warp halve the traffic of shared memory; for 128 dimensions the two
/// gradients then would not fit the registers.
template <int kDim>
struct KeysTiles {
  static constexpr int kRowTiles = kDim == 128 ? 1 : 2;
  static constexpr int kKeys = kAttentionWarps * 16 * kRowTiles;
  static constexpr int kQueries = 32;
  static constexpr int kPart = kDim == 64 ? 16 : 32;  ///< Queries whose scores are in registers at one time.
  static constexpr int kElements = (2 * kKeys + 4 * kQueries) * kDim;  ///< Keys, values; twice queries and gradients.
};

/// Tile sizes of the queries kernel.
template <int kDim>
struct QueriesTiles {
  static constexpr int kRowTiles = kDim == 128 ? 1 : 2;
  static constexpr int kQueries = kAttentionWarps * 16 * kRowTiles;
  static constexpr int kKeys = kDim == 32 ? 64 : 32;
  static constexpr int kElements = (2 * kQueries + 4 * kKeys) * kDim;
};

template <class T>
struct BackwardArguments {
  Heads<const T> query, key, value, out_gradient;
  Heads<T> query_gradient, key_gradient, value_gradient;
  const int32_t* sequence_start;
  const QueryNumbers* numbers;  ///< [rows, heads, tokens]: QueryNumbers of every query.
  const int32_t* query_ends;    ///< [rows, tiles of keys]: one more than the last query that sees a key of the tile.
  Rotary rotary;
  int tokens;
  float scale_log2, scale;
};

// --------------------------------------------------------------------------------------------------- preparation

/// Grid: tiles of `keys` tokens, rows. One warp per block.
__global__ void __launch_bounds__(kWarpSize)
    query_ends_kernel(const int32_t* sequence_start, int tokens, int keys, int32_t* query_ends) {
  const int lane = static_cast<int>(threadIdx.x);
  const int first = static_cast<int>(blockIdx.x) * keys;
  const int32_t* starts = sequence_start + static_cast<int64_t>(blockIdx.y) * tokens;
  int end = first;
  for (int token = first + lane; token < tokens; token += kWarpSize) {
    if (starts[token] < first + keys) end = token + 1;
  }
  end = warp_max(end);
  if (lane == 0) query_ends[static_cast<int64_t>(blockIdx.y) * gridDim.x + blockIdx.x] = end;
}

template <class T>
__device__ __forceinline__ float dot_packed(uint32_t a, uint32_t b, float sum) {
  const float2 x = unpack2<T>(a);
  const float2 y = unpack2<T>(b);
  return fmaf(x.y, y.y, fmaf(x.x, y.x, sum));
}

/// Grid: tiles of tokens, heads, rows. kDim / 8 lanes share a token.
template <class T, int kDim>
__global__ void __launch_bounds__(kAttentionThreads)
    query_numbers_kernel(Heads<const T> out, Heads<const T> out_gradient, const float* log_sum_exp, int tokens,
                         QueryNumbers* numbers) {
  constexpr int kLanes = kDim / kChunk;
  const int thread = static_cast<int>(threadIdx.x);
  const int head = static_cast<int>(blockIdx.y);
  const int row = static_cast<int>(blockIdx.z);
  const int token = static_cast<int>(blockIdx.x) * (kAttentionThreads / kLanes) + thread / kLanes;
  const int element = thread % kLanes * kChunk;
  float sum = 0.0f;
  if (token < tokens) {
    const uint4 a = load16(out.head(row, head) + token * out.token_stride + element);
    const uint4 b = load16(out_gradient.head(row, head) + token * out_gradient.token_stride + element);
    sum = dot_packed<T>(a.w, b.w, dot_packed<T>(a.z, b.z, dot_packed<T>(a.y, b.y, dot_packed<T>(a.x, b.x, 0.0f))));
  }
#pragma unroll
  for (int distance = kLanes / 2; distance > 0; distance /= 2) {
    sum += __shfl_xor_sync(kFullMask, sum, distance);
  }
  if (thread % kLanes == 0 && token < tokens) {
    const int64_t at = (static_cast<int64_t>(row) * gridDim.y + head) * tokens + token;
    store8(numbers + at, make_uint2(__float_as_uint(log_sum_exp[at] * kLog2E), __float_as_uint(sum)));
  }
}

// -------------------------------------------------------------------------------------------------------- results

/// Rotates gradients of the warp's rows, of which `rows` exist, backwards: gradients of what was there before rotation.
template <int kDim, int kRowTiles>
__device__ __forceinline__ void rotate_back(const Rotary& rotary, int rows, const TilePositions& positions,
                                            float (&gradient)[kRowTiles][kDim / 8][4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int position = positions(min(16 * m + 8 * half + lane / 4, rows - 1));
      const int at = position * (kDim / 2) + 2 * (lane % 4);
#pragma unroll
      for (int n = 0; n < kDim / 16; ++n) {
        float(&low)[4] = gradient[m][n];
        float(&high)[4] = gradient[m][n + kDim / 16];
        const uint2 cosine = load8(rotary.cosine + at + 8 * n);
        const uint2 sine = load8(rotary.sine + at + 8 * n);
        rotate(__uint_as_float(cosine.x), -__uint_as_float(sine.x), low[2 * half], high[2 * half]);
        rotate(__uint_as_float(cosine.y), -__uint_as_float(sine.y), low[2 * half + 1], high[2 * half + 1]);
      }
    }
  }
}

/// Writes a warp's rows of a gradient times `scale`, by way of its own rows of `tile`.
template <class T, int kDim, int kRowTiles>
__device__ __forceinline__ void write_gradient(const float (&gradient)[kRowTiles][kDim / 8][4], float scale, T* tile,
                                               int first_row, T* to, int stride, int first, int tokens) {
  float factor[kRowTiles][2];
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) factor[m][0] = factor[m][1] = scale;
  put_rows<T, kDim, kRowTiles>(gradient, factor, tile, first_row);
  __syncwarp();
  store_rows<T, kDim, 16 * kRowTiles>(tile, first_row, to, stride, first, tokens);
}

// ---------------------------------------------------------------------------------- gradients of keys and values

/// Starts copying the numbers and starts of queries [first, first + kQueries) to shared memory; zeros from `end` on.
template <int kQueries>
__device__ __forceinline__ void copy_numbers(QueryNumbers* numbers_tile, int32_t* starts_tile,
                                             const QueryNumbers* numbers, const int32_t* starts, int first, int end) {
  const int i = static_cast<int>(threadIdx.x);
  if (i >= kQueries) return;
  const int token = min(first + i, end - 1);
  const bool exists = first + i < end;
  cp_async<8>(numbers_tile + i, numbers + token, exists ? 8 : 0);
  cp_async<4>(starts_tile + i, starts + token, exists ? 4 : 0);
}

/// The numbers of two neighbouring queries, of which the first has an even index.
struct NumbersPair {
  float log_sum_exp[2], delta[2];

  static __device__ __forceinline__ NumbersPair load(const QueryNumbers* place) {
    const float4 both = load_floats(place);
    return {{both.x, both.z}, {both.y, both.w}};
  }
};

/// Whether a lane's query `token` of a tile may see one of the keys [key, last_key] of the warp, and whether all.
__device__ __forceinline__ bool sees_some(int token, int start, int tokens, int key, int last_key) {
  return token < tokens && token >= key && start <= last_key && start <= token;
}
__device__ __forceinline__ bool sees_all(int token, int start, int tokens, int key, int last_key) {
  return token < tokens && token >= last_key && start <= key;
}

/// Scores S^T of a warp's keys (rows) to weights P^T. Columns are queries.
template <int kRowTiles, int kQueries>
__device__ __forceinline__ void weigh_columns(const QueryNumbers* numbers, float scale_log2,
                                              float (&scores)[kRowTiles][kQueries / 8][4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
  for (int n = 0; n < kQueries / 8; ++n) {
    const NumbersPair pair = NumbersPair::load(numbers + 8 * n + 2 * (lane % 4));
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        scores[m][n][i] = exp2_approx(fmaf(scores[m][n][i], scale_log2, -pair.log_sum_exp[i % 2]));
      }
    }
  }
}

/// Which of a warp's keys (rows) the queries of a tile (columns) see.
struct ColumnMask {
  const int32_t* starts;  ///< Of the tile's queries; null when every query sees every key.
  int key, query;         ///< First token of the warp; of the tile.
  int tokens;
};

/// Sets weights of keys that a query does not see to zero; `part` is the first column.
template <int kRowTiles, int kQueries>
__device__ __forceinline__ void mask_columns(const ColumnMask& mask, int part,
                                             float (&weights)[kRowTiles][kQueries / 8][4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
  for (int n = 0; n < kQueries / 8; ++n) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int column = part + 8 * n + 2 * (lane % 4) + j;
      // First and last key that the query sees, counted from the lane's first row: compared with constants below.
      const int lane_key = mask.key + lane / 4;
      const int first_seen = mask.query + column < mask.tokens ? max(mask.starts[column], 0) - lane_key : kNoToken;
      const int last_seen = mask.query + column - lane_key;
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int row = 16 * m + 8 * half;
          if (row < first_seen || row > last_seen) weights[m][n][2 * half + j] = 0.0f;
        }
      }
    }
  }
}

/// dP^T to dS^T = P^T (dP^T - delta), with the weights as they entered the product for the gradient of values:
/// unrounded ones would take twice the registers while dP^T is computed.
template <class T, int kRowTiles, int kQueries>
__device__ __forceinline__ void score_gradients_of_columns(const QueryNumbers* numbers,
                                                           const uint32_t (&weights)[kRowTiles][kQueries / 16][4],
                                                           float (&gradients)[kRowTiles][kQueries / 8][4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
  for (int n = 0; n < kQueries / 8; ++n) {
    const NumbersPair pair = NumbersPair::load(numbers + 8 * n + 2 * (lane % 4));
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float2 weight = unpack2<T>(weights[m][n / 2][n % 2 * 2 + half]);
        float(&g)[4] = gradients[m][n];
        g[2 * half] = weight.x * (g[2 * half] - pair.delta[0]);
        g[2 * half + 1] = weight.y * (g[2 * half + 1] - pair.delta[1]);
      }
    }
  }
}

/// Adds what a tile of queries, with the gradients of their results behind them, gives to the gradients of a warp's
/// keys and values.
template <class T, int kDim>
__device__ __forceinline__ void add_queries(const T* key_tile, const T* value_tile, int warp_row, const T* query_tile,
                                            const QueryNumbers* numbers, const ColumnMask& mask, float scale_log2,
                                            float (&key_gradient)[KeysTiles<kDim>::kRowTiles][kDim / 8][4],
                                            float (&value_gradient)[KeysTiles<kDim>::kRowTiles][kDim / 8][4]) {
  using Tiles = KeysTiles<kDim>;
  constexpr int kRowTiles = Tiles::kRowTiles;
  constexpr int kPart = Tiles::kPart;
  const T* out_gradient_tile = query_tile + Tiles::kQueries * kDim;
#pragma unroll 1
  for (int part = 0; part < Tiles::kQueries; part += kPart) {
    float scores[kRowTiles][kPart / 8][4];
    multiply_transposed<T, kDim, kRowTiles, kPart>(key_tile, warp_row, query_tile, part, scores);
    weigh_columns<kRowTiles, kPart>(numbers + part, scale_log2, scores);
    if (mask.starts != nullptr) mask_columns<kRowTiles, kPart>(mask, part, scores);
    uint32_t weights[kRowTiles][kPart / 16][4];
    pack_operand<T, kRowTiles, kPart>(scores, weights);
    multiply_add<T, kDim, kRowTiles, kPart>(weights, out_gradient_tile, part, value_gradient);
    float(&gradients)[kRowTiles][kPart / 8][4] = scores;
    multiply_transposed<T, kDim, kRowTiles, kPart>(value_tile, warp_row, out_gradient_tile, part, gradients);
    score_gradients_of_columns<T, kRowTiles, kPart>(numbers + part, weights, gradients);
    pack_operand<T, kRowTiles, kPart>(gradients, weights);
    multiply_add<T, kDim, kRowTiles, kPart>(weights, query_tile, part, key_gradient);
  }
}

/// Grid: tiles of keys, heads, rows. The first tile has most queries and goes first.
template <class T, int kDim>
__global__ void __launch_bounds__(kAttentionThreads, 2) attention_keys_kernel(BackwardArguments<T> arguments) {
  using Tiles = KeysTiles<kDim>;
  constexpr int kRowTiles = Tiles::kRowTiles;
  constexpr int kQueries = Tiles::kQueries;
  using KeyCopy = TileCopy<T, kDim, Tiles::kKeys, kAttentionThreads>;
  using QueryCopy = TileCopy<T, kDim, kQueries, kAttentionThreads>;
  static_assert(kQueries == kWarpSize, "a lane per query of a tile");
  GATO_DYNAMIC_SHARED(T, key_tile);
  GATO_SHARED(QueryNumbers, numbers_tiles, 2 * kQueries);
  GATO_SHARED(int32_t, starts_tiles, 2 * kQueries);
  T* value_tile = key_tile + Tiles::kKeys * kDim;
  T* query_tiles = value_tile + Tiles::kKeys * kDim;  // queries, then gradients of results; twice
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int head = static_cast<int>(blockIdx.y);
  const int row = static_cast<int>(blockIdx.z);
  const int tokens = arguments.tokens;
  const int first = static_cast<int>(blockIdx.x) * Tiles::kKeys;
  const int end = arguments.query_ends[static_cast<int64_t>(row) * gridDim.x + blockIdx.x];
  const int32_t* starts = arguments.sequence_start + static_cast<int64_t>(row) * tokens;
  const int64_t numbers_at = (static_cast<int64_t>(row) * gridDim.y + head) * tokens;
  const int warp_row = static_cast<int>(threadIdx.x) / kWarpSize * 16 * kRowTiles;
  const int warp_key = first + warp_row;
  const int warp_last_key = warp_key + 16 * kRowTiles - 1;
  const Rotary& rotary = arguments.rotary;

  const auto query_tile_of = [&](int stage) { return query_tiles + stage * 2 * kQueries * kDim; };
  const auto copy_queries = [&](int query, int stage) {
    T* tile = query_tile_of(stage);
    QueryCopy::start(tile, arguments.query.head(row, head), arguments.query.token_stride, query, tokens);
    QueryCopy::start(tile + kQueries * kDim, arguments.out_gradient.head(row, head),
                     arguments.out_gradient.token_stride, query, tokens);
    copy_numbers<kQueries>(numbers_tiles + stage * kQueries, starts_tiles + stage * kQueries,
                           arguments.numbers + numbers_at, starts, query, tokens);
  };

  if (first < end) {
    KeyCopy::start(key_tile, arguments.key.head(row, head), arguments.key.token_stride, first, tokens);
    KeyCopy::start(value_tile, arguments.value.head(row, head), arguments.value.token_stride, first, tokens);
    copy_queries(first, 0);
  }
  cp_async_commit();
  cp_async_wait<0>();
  if (rotary.cosine != nullptr && first < end) {
    KeyCopy::rotate(key_tile, rotary, tokens - first, TilePositions{starts, first, rotary.last_position});
  }
  float key_gradient[kRowTiles][kDim / 8][4];
  float value_gradient[kRowTiles][kDim / 8][4];
  set_zero<kRowTiles, kDim>(key_gradient);
  set_zero<kRowTiles, kDim>(value_gradient);

  for (int query = first, stage = 0; query < end; query += kQueries, stage ^= 1) {
    T* query_tile = query_tile_of(stage);
    const QueryNumbers* numbers = numbers_tiles + stage * kQueries;
    const int32_t* query_starts = starts_tiles + stage * kQueries;
    if (rotary.cosine != nullptr) {
      QueryCopy::rotate(query_tile, rotary, tokens - query, TilePositions{starts, query, rotary.last_position});
    }
    __syncthreads();
    if (query + kQueries < end) copy_queries(query + kQueries, stage ^ 1);
    cp_async_commit();
    const int lane_start = query_starts[lane];
    if (__any_sync(kFullMask, sees_some(query + lane, lane_start, tokens, warp_key, warp_last_key))) {
      const bool masked = !__all_sync(kFullMask, sees_all(query + lane, lane_start, tokens, warp_key, warp_last_key));
      add_queries<T, kDim>(key_tile, value_tile, warp_row, query_tile, numbers,
                           ColumnMask{masked ? query_starts : nullptr, warp_key, query, tokens}, arguments.scale_log2,
                           key_gradient, value_gradient);
    }
    cp_async_wait<0>();
  }
  if (rotary.cosine != nullptr) {
    rotate_back<kDim, kRowTiles>(rotary, tokens - warp_key, TilePositions{starts, warp_key, rotary.last_position},
                                 key_gradient);
  }
  write_gradient<T, kDim, kRowTiles>(key_gradient, arguments.scale, key_tile, warp_row,
                                     arguments.key_gradient.head(row, head), arguments.key_gradient.token_stride,
                                     warp_key, tokens);
  write_gradient<T, kDim, kRowTiles>(value_gradient, 1.0f, value_tile, warp_row,
                                     arguments.value_gradient.head(row, head), arguments.value_gradient.token_stride,
                                     warp_key, tokens);
}

// --------------------------------------------------------------------------------------------- gradient of queries

/// Scores of a warp's queries to weights P, then dP to dS = P (dP - delta), given per row.
template <int kRowTiles, int kKeys>
__device__ __forceinline__ void weigh_rows(const float (&shift)[kRowTiles][2], float scale_log2,
                                           float (&scores)[kRowTiles][kKeys / 8][4]) {
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) scores[m][n][i] = exp2_approx(fmaf(scores[m][n][i], scale_log2, -shift[m][i / 2]));
    }
  }
}

template <int kRowTiles, int kKeys>
__device__ __forceinline__ void score_gradients_of_rows(const float (&delta)[kRowTiles][2],
                                                        const float (&weights)[kRowTiles][kKeys / 8][4],
                                                        float (&gradients)[kRowTiles][kKeys / 8][4]) {
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) gradients[m][n][i] = weights[m][n][i] * (gradients[m][n][i] - delta[m][i / 2]);
    }
  }
}

/// Grid: tiles of queries, heads, rows.
template <class T, int kDim>
__global__ void __launch_bounds__(kAttentionThreads, 2) attention_queries_kernel(BackwardArguments<T> arguments) {
  using Tiles = QueriesTiles<kDim>;
  constexpr int kRowTiles = Tiles::kRowTiles;
  constexpr int kKeys = Tiles::kKeys;
  using QueryCopy = TileCopy<T, kDim, Tiles::kQueries, kAttentionThreads>;
  using KeyCopy = TileCopy<T, kDim, kKeys, kAttentionThreads>;
  GATO_DYNAMIC_SHARED(T, query_tile);
  T* out_gradient_tile = query_tile + Tiles::kQueries * kDim;
  T* key_tiles = out_gradient_tile + Tiles::kQueries * kDim;  // keys, then values; twice
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int head = static_cast<int>(blockIdx.y);
  const int row = static_cast<int>(blockIdx.z);
  const int tokens = arguments.tokens;
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * Tiles::kQueries;  // tiles with most keys go first
  const int end = min(first + Tiles::kQueries, tokens);
  const int32_t* starts = arguments.sequence_start + static_cast<int64_t>(row) * tokens;
  const int64_t numbers_at = (static_cast<int64_t>(row) * gridDim.y + head) * tokens;
  const int warp_row = static_cast<int>(threadIdx.x) / kWarpSize * 16 * kRowTiles;
  const int first_key = smallest_start<Tiles::kQueries>(starts, first, end) / kKeys * kKeys;
  const Rotary& rotary = arguments.rotary;

  const auto copy_keys = [&](int key, int stage) {
    T* tile = key_tiles + stage * 2 * kKeys * kDim;
    KeyCopy::start(tile, arguments.key.head(row, head), arguments.key.token_stride, key, tokens);
    KeyCopy::start(tile + kKeys * kDim, arguments.value.head(row, head), arguments.value.token_stride, key, tokens);
  };
  if (first_key < end) {
    QueryCopy::start(query_tile, arguments.query.head(row, head), arguments.query.token_stride, first, tokens);
    QueryCopy::start(out_gradient_tile, arguments.out_gradient.head(row, head), arguments.out_gradient.token_stride,
                     first, tokens);
    copy_keys(first_key, 0);
  }
  cp_async_commit();
  QueryRows<kRowTiles> rows;
  rows.load(starts, first + warp_row, tokens);
  float shift[kRowTiles][2];
  float delta[kRowTiles][2];
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t at = numbers_at + min(first + warp_row + 16 * m + 8 * half + lane / 4, tokens - 1);
      const uint2 numbers = load8(arguments.numbers + at);
      shift[m][half] = __uint_as_float(numbers.x);
      delta[m][half] = __uint_as_float(numbers.y);
    }
  }
  cp_async_wait<0>();
  if (rotary.cosine != nullptr && first_key < end)
    QueryCopy::rotate(query_tile, rotary, tokens - first, TilePositions{starts, first, rotary.last_position});
  float query_gradient[kRowTiles][kDim / 8][4];
  set_zero<kRowTiles, kDim>(query_gradient);

  for (int key = first_key, stage = 0; key < end; key += kKeys, stage ^= 1) {
    T* key_tile = key_tiles + stage * 2 * kKeys * kDim;
    if (rotary.cosine != nullptr) {
      KeyCopy::rotate(key_tile, rotary, tokens - key, TilePositions{starts, key, rotary.last_position});
    }
    __syncthreads();
    if (key + kKeys < end) copy_keys(key + kKeys, stage ^ 1);
    cp_async_commit();
    if (rows.sees_some(key, kKeys)) {
      float weights[kRowTiles][kKeys / 8][4];
      float gradients[kRowTiles][kKeys / 8][4];
      multiply_transposed<T, kDim, kRowTiles, kKeys>(query_tile, warp_row, key_tile, 0, weights);
      weigh_rows<kRowTiles, kKeys>(shift, arguments.scale_log2, weights);
      if (!rows.sees_all(key, kKeys)) rows.template mask<kKeys>(key, 0.0f, weights);
      multiply_transposed<T, kDim, kRowTiles, kKeys>(out_gradient_tile, warp_row, key_tile + kKeys * kDim, 0,
                                                     gradients);
      score_gradients_of_rows<kRowTiles, kKeys>(delta, weights, gradients);
      uint32_t operand[kRowTiles][kKeys / 16][4];
      pack_operand<T, kRowTiles, kKeys>(gradients, operand);
      multiply_add<T, kDim, kRowTiles, kKeys>(operand, key_tile, 0, query_gradient);
    }
    cp_async_wait<0>();
  }
  if (rotary.cosine != nullptr) {
    rotate_back<kDim, kRowTiles>(rotary, tokens - first - warp_row,
                                 TilePositions{starts, first + warp_row, rotary.last_position}, query_gradient);
  }
  write_gradient<T, kDim, kRowTiles>(query_gradient, arguments.scale, query_tile, warp_row,
                                     arguments.query_gradient.head(row, head), arguments.query_gradient.token_stride,
                                     first + warp_row, tokens);
}

// -------------------------------------------------------------------------------------------------------- host side

constexpr size_t kWorkspaceAlignment = 16;

[[nodiscard]] size_t round_up(size_t bytes) {
  return (bytes + kWorkspaceAlignment - 1) / kWorkspaceAlignment * kWorkspaceAlignment;
}

[[nodiscard]] size_t numbers_bytes(const AttentionShape& shape) {
  return round_up(static_cast<size_t>(shape.rows) * static_cast<size_t>(shape.heads) *
                  static_cast<size_t>(shape.tokens) * sizeof(QueryNumbers));
}

[[nodiscard]] unsigned tiles_of(int64_t tokens, int tile) { return static_cast<unsigned>((tokens + tile - 1) / tile); }

template <class T, int kDim>
void launch_backward(const AttentionBackward& call, Stream stream) {
  const AttentionShape& shape = call.shape;
  const int tokens = static_cast<int>(shape.tokens);
  const auto heads = static_cast<unsigned>(shape.heads);
  const auto rows = static_cast<unsigned>(shape.rows);
  auto* numbers = static_cast<QueryNumbers*>(call.workspace);
  auto* query_ends = reinterpret_cast<int32_t*>(static_cast<char*>(call.workspace) + numbers_bytes(shape));
  const BackwardArguments<T> arguments{typed_heads<const T>(call.query),
                                       typed_heads<const T>(call.key),
                                       typed_heads<const T>(call.value),
                                       typed_heads<const T>(call.out_gradient),
                                       typed_heads<T>(call.query_gradient),
                                       typed_heads<T>(call.key_gradient),
                                       typed_heads<T>(call.value_gradient),
                                       call.sequence_start,
                                       numbers,
                                       query_ends,
                                       device_rotary(call.rotary),
                                       tokens,
                                       log2_scale(kDim),
                                       log2_scale(kDim) * kLogTwo};
  using Keys = KeysTiles<kDim>;
  using Queries = QueriesTiles<kDim>;
  constexpr int kTokensPerBlock = kAttentionThreads / (kDim / kChunk);
  const dim3 block(kAttentionThreads);
  const unsigned key_tiles = tiles_of(tokens, Keys::kKeys);
  launch({"attention_query_ends", dim3(key_tiles, rows), dim3(kWarpSize), 0, stream}, query_ends_kernel,
         call.sequence_start, tokens, Keys::kKeys, query_ends);
  launch({"attention_query_numbers", dim3(tiles_of(tokens, kTokensPerBlock), heads, rows), block, 0, stream},
         query_numbers_kernel<T, kDim>, typed_heads<const T>(call.out), arguments.out_gradient, call.log_sum_exp,
         tokens, numbers);
  launch({"attention_keys_backward", dim3(key_tiles, heads, rows), block, Keys::kElements * sizeof(T), stream},
         attention_keys_kernel<T, kDim>, arguments);
  launch({"attention_queries_backward", dim3(tiles_of(tokens, Queries::kQueries), heads, rows), block,
          Queries::kElements * sizeof(T), stream},
         attention_queries_kernel<T, kDim>, arguments);
}

void check_backward(const AttentionBackward& call) {
  constexpr const char* kName = "attention_backward";
  const int64_t tokens = call.shape.tokens;
  check_heads_view(call.query, tokens, kName, "query");
  check_heads_view(call.key, tokens, kName, "key");
  check_heads_view(call.value, tokens, kName, "value");
  check_heads_view(call.out, tokens, kName, "out");
  check_heads_view(call.out_gradient, tokens, kName, "out_gradient");
  check_heads_view(call.query_gradient, tokens, kName, "query_gradient");
  check_heads_view(call.key_gradient, tokens, kName, "key_gradient");
  check_heads_view(call.value_gradient, tokens, kName, "value_gradient");
  check_device_pointer(call.sequence_start, alignof(int32_t), kName, "sequence_start");
  check_device_pointer(call.log_sum_exp, alignof(float), kName, "log_sum_exp");
  check_device_pointer(call.workspace, kWorkspaceAlignment, kName, "workspace");
  check_rotary_view(call.rotary, kName);
}

}  // namespace

size_t attention_backward_workspace(const AttentionShape& shape) {
  check_attention_shape(shape, "attention_backward_workspace");
  constexpr int64_t kSmallestTile = KeysTiles<128>::kKeys;
  const auto tiles = static_cast<size_t>((shape.tokens + kSmallestTile - 1) / kSmallestTile);
  return numbers_bytes(shape) + round_up(static_cast<size_t>(shape.rows) * tiles * sizeof(int32_t));
}

void attention_backward(const AttentionBackward& call, Stream stream) {
  check_attention_shape(call.shape, "attention_backward");
  if (has_no_elements(call.shape)) return;
  check_backward(call);
  with_half_type(call.shape.element, [&]<class T>(T) {
    with_head_dim(call.shape.head_dim, [&](auto dim) { launch_backward<T, decltype(dim)::value>(call, stream); });
  });
}

}  // namespace gato::kernels::cuda
