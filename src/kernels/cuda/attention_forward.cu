// Attention forward. A block takes a tile of queries of one head and walks over the keys that they see; a warp owns
// 16 kRowTiles of the queries and keeps their weighted values in registers.
//
// clang-format off
//              keys                      One step: wait for this thread's copies of the tile, rotate what they brought,
//            a a a b b b b b             barrier, start copying the next tile into the other buffer, multiply.
//   queries  # . .                       Key tiles before the earliest start of the block's queries and after its last
//      a     # # .                       query are never touched (the pictured tile of b's queries begins at b's first
//      a     # # #                       key tile); of the others a warp skips those that none of its own rows sees.
//      b           # . .
//      b           # # .
// clang-format on
#include "kernels/cuda/attention_parts.h"
#include "kernels/cuda/device.h"

namespace gato::kernels::cuda {
namespace {

/// Tile sizes of forward: two row tiles per warp halve the traffic of shared memory, which is what limits one
/// (docs/attention_kernels.md); for 128 dimensions the tile of keys is short, for registers and shared memory.
template <int kDim>
struct ForwardTiles {
  static constexpr int kRowTiles = 2;
  static constexpr int kQueries = kAttentionWarps * 16 * kRowTiles;
  static constexpr int kKeys = kDim == 128 ? 32 : 64;
  static constexpr int kElements = (kQueries + 4 * kKeys) * kDim;  ///< Queries and twice keys and values.
};

template <class T>
struct ForwardArguments {
  Heads<const T> query, key, value;
  Heads<T> out;
  const int32_t* sequence_start;
  float* log_sum_exp;
  Rotary rotary;
  int tokens;
  float scale_log2;
};

/// Grid: query tiles, heads, rows.
template <class T, int kDim>
__global__ void __launch_bounds__(kAttentionThreads, 2) attention_forward_kernel(ForwardArguments<T> arguments) {
  using Tiles = ForwardTiles<kDim>;
  using QueryCopy = TileCopy<T, kDim, Tiles::kQueries, kAttentionThreads>;
  using KeyCopy = TileCopy<T, kDim, Tiles::kKeys, kAttentionThreads>;
  constexpr int kKeys = Tiles::kKeys;
  GATO_DYNAMIC_SHARED(T, query_tile);
  T* key_tiles = query_tile + Tiles::kQueries * kDim;  // keys, then values; twice
  const int head = static_cast<int>(blockIdx.y);
  const int row = static_cast<int>(blockIdx.z);
  const int tokens = arguments.tokens;
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * Tiles::kQueries;  // tiles with most keys go first
  const int end = min(first + Tiles::kQueries, tokens);
  const int32_t* starts = arguments.sequence_start + static_cast<int64_t>(row) * tokens;
  const int warp_row = static_cast<int>(threadIdx.x) / kWarpSize * 16 * Tiles::kRowTiles;
  const int first_key = smallest_start<Tiles::kQueries>(starts, first, end) / kKeys * kKeys;
  const Rotary& rotary = arguments.rotary;
  const auto copy_keys = [&](int key, int stage) {
    T* tile = key_tiles + stage * 2 * kKeys * kDim;
    KeyCopy::start(tile, arguments.key.head(row, head), arguments.key.token_stride, key, tokens);
    KeyCopy::start(tile + kKeys * kDim, arguments.value.head(row, head), arguments.value.token_stride, key, tokens);
  };
  if (first_key < end) {
    QueryCopy::start(query_tile, arguments.query.head(row, head), arguments.query.token_stride, first, tokens);
    copy_keys(first_key, 0);
  }
  cp_async_commit();
  QueryRows<Tiles::kRowTiles> rows;
  rows.load(starts, first + warp_row, tokens);
  cp_async_wait<0>();
  if (rotary.cosine != nullptr && first_key < end) {
    QueryCopy::rotate(query_tile, rotary, tokens - first, TilePositions{starts, first, rotary.last_position});
  }
  OnlineSoftmax<T, kDim, Tiles::kRowTiles> softmax;
  softmax.clear();
  attend<kKeys, kKeys>(softmax, rows, arguments.scale_log2, query_tile, warp_row, key_tiles, 0, first_key, end,
                       copy_keys, [&](int key, int stage) {
                         if (rotary.cosine == nullptr) return;
                         KeyCopy::rotate(key_tiles + stage * 2 * kKeys * kDim, rotary, tokens - key,
                                         TilePositions{starts, key, rotary.last_position});
                       });
  write_rows(softmax, query_tile, warp_row, arguments.out.head(row, head), arguments.out.token_stride,
             arguments.log_sum_exp + (static_cast<int64_t>(row) * gridDim.y + head) * tokens, first + warp_row, tokens);
}

template <class T, int kDim>
void launch_forward(const AttentionForward& call, Stream stream) {
  using Tiles = ForwardTiles<kDim>;
  const AttentionShape& shape = call.shape;
  const int tokens = static_cast<int>(shape.tokens);
  const ForwardArguments<T> arguments{typed_heads<const T>(call.query),
                                      typed_heads<const T>(call.key),
                                      typed_heads<const T>(call.value),
                                      typed_heads<T>(call.out),
                                      call.sequence_start,
                                      call.log_sum_exp,
                                      device_rotary(call.rotary),
                                      tokens,
                                      log2_scale(kDim)};
  const dim3 grid(static_cast<unsigned>((tokens + Tiles::kQueries - 1) / Tiles::kQueries),
                  static_cast<unsigned>(shape.heads), static_cast<unsigned>(shape.rows));
  launch({"attention_forward", grid, dim3(kAttentionThreads), Tiles::kElements * sizeof(T), stream},
         attention_forward_kernel<T, kDim>, arguments);
}

}  // namespace

void attention_forward(const AttentionForward& call, Stream stream) {
  constexpr const char* kName = "attention_forward";
  check_attention_shape(call.shape, kName);
  if (has_no_elements(call.shape)) return;
  check_heads_view(call.query, call.shape.tokens, kName, "query");
  check_heads_view(call.key, call.shape.tokens, kName, "key");
  check_heads_view(call.value, call.shape.tokens, kName, "value");
  check_heads_view(call.out, call.shape.tokens, kName, "out");
  check_device_pointer(call.sequence_start, alignof(int32_t), kName, "sequence_start");
  check_device_pointer(call.log_sum_exp, alignof(float), kName, "log_sum_exp");
  check_rotary_view(call.rotary, kName);
  with_half_type(call.shape.element, [&]<class T>(T) {
    with_head_dim(call.shape.head_dim, [&](auto dim) { launch_forward<T, decltype(dim)::value>(call, stream); });
  });
}

}  // namespace gato::kernels::cuda
