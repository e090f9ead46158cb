// Attention over cached keys and values. Four kernels, of which a call launches those it needs:
//
//   store      rotates the new keys and writes them and the new values to their slots
//   split      runs of up to 16 tokens: a block takes 256 keys of a slot; of each tile of 64 keys its warps take 16
//   each
//              for the same 16 queries, and at the end put their sums together
//   combine    puts together the blocks of a run, when its context needs more than one
//   prefill    longer runs: as attention_forward, with keys that are rotated already
//
// Reading keys and values once is what the split kernel has to do; the products of the tensor cores, of which one query
// fills a sixteenth, hide behind it (docs/attention_kernels.md).
#include "kernels/cuda/decode_attention.h"

#include "kernels/cuda/attention_parts.h"
#include "kernels/cuda/device.h"

namespace gato::kernels::cuda {
namespace {

constexpr int kSplitQueries = 16;  ///< Runs of at most so many tokens are split over the context.
constexpr int kSplitKeys = 256;    ///< Keys of a block. Fixed, so that results do not depend on the device or the call.

/// What a block has found for one query, relative to the largest score it has seen (in powers of two).
using PartSums = float2;  ///< x: the largest score; y: the sum of weights.

template <class T>
struct CachedArguments {
  const T* qkv;
  T* out;
  T* keys;
  T* values;
  const SlotRun* runs;
  float* part_values;   ///< [runs, heads, split queries, splits, kDim]: weighted values.
  PartSums* part_sums;  ///< [runs, heads, split queries, splits]
  Rotary rotary;
  int tokens, heads, slots, capacity, most_new, most_context, splits;
  float scale_log2;
};

/// Whether the device may work on a run: inside the cache, the call and its bounds.
template <class T>
__device__ __forceinline__ bool fits(const SlotRun& run, const CachedArguments<T>& arguments) {
  return run.count > 0 && run.count <= arguments.most_new && run.slot >= 0 && run.slot < arguments.slots &&
         run.position >= 0 && run.position <= arguments.most_context - run.count && run.first >= 0 &&
         run.first <= arguments.tokens - run.count;
}

/// Where a head's cached keys or values begin.
template <int kDim, class T>
__device__ __forceinline__ T* slot_head(T* cache, const CachedArguments<T>& arguments, int slot, int head) {
  return cache + (static_cast<int64_t>(slot) * arguments.heads + head) * arguments.capacity * kDim;
}

/// Where a head's query of the run's first token begins; keys and values of the token follow `heads * kDim` behind.
template <int kDim, class T>
__device__ __forceinline__ const T* run_queries(const CachedArguments<T>& arguments, const SlotRun& run, int head) {
  return arguments.qkv + (static_cast<int64_t>(run.first) * 3 * arguments.heads + head) * kDim;
}

template <int kDim, class T>
__device__ __forceinline__ T* run_results(const CachedArguments<T>& arguments, const SlotRun& run, int head) {
  return arguments.out + (static_cast<int64_t>(run.first) * arguments.heads + head) * kDim;
}

/// Positions of consecutive tokens, inside the rotary table.
struct SlotPositions {
  int first, last_position;
  __device__ __forceinline__ int operator()(int row) const { return min(first + row, last_position); }
};

// ------------------------------------------------------------------------------------------------------------ store

/// Grid: tiles of a run's tokens, heads, runs. kDim / 16 threads share a token, each with a chunk of both halves.
template <class T, int kDim>
__global__ void __launch_bounds__(kAttentionThreads) store_kernel(CachedArguments<T> arguments) {
  constexpr int kThreadsPerToken = kDim / 2 / kChunk;
  const SlotRun run = arguments.runs[blockIdx.z];
  const int thread = static_cast<int>(threadIdx.x);
  const int token = static_cast<int>(blockIdx.x) * (kAttentionThreads / kThreadsPerToken) + thread / kThreadsPerToken;
  if (!fits(run, arguments) || token >= run.count) return;
  const int head = static_cast<int>(blockIdx.y);
  const int element = thread % kThreadsPerToken * kChunk;
  const int width = arguments.heads * kDim;
  const T* key = run_queries<kDim>(arguments, run, head) + static_cast<int64_t>(token) * 3 * width + width + element;
  const T* value = key + width;
  uint4 low = load16(key);
  uint4 high = load16(key + kDim / 2);
  if (arguments.rotary.cosine != nullptr) {
    const SlotPositions positions{run.position, arguments.rotary.last_position};
    rotate_chunks<T, kDim>(arguments.rotary, positions(token), element, low, high);
  }
  const int at = (run.position + token) * kDim + element;
  T* keys = slot_head<kDim>(arguments.keys, arguments, run.slot, head);
  T* values = slot_head<kDim>(arguments.values, arguments, run.slot, head);
  store16(keys + at, low);
  store16(keys + at + kDim / 2, high);
  store16(values + at, load16(value));
  store16(values + at + kDim / 2, load16(value + kDim / 2));
}

// ------------------------------------------------------------------------------------------------------------ split

template <int kDim>
struct SplitTiles {
  static constexpr int kKeys = 64;
  static constexpr int kColumns = kKeys / kAttentionWarps;              ///< Of a tile, for one warp.
  static constexpr int kElements = (kSplitQueries + 4 * kKeys) * kDim;  ///< Queries and twice keys and values.
  static constexpr int kRowFloats = kDim + 8;                           ///< Of sums: rows begin in different banks.
  static constexpr int kWarpFloats = kSplitQueries * kRowFloats;
  static_assert(kSplitKeys % kKeys == 0);
  static_assert(kAttentionWarps * kWarpFloats * sizeof(float) <= 4 * kKeys * kDim * 2, "sums take the place of keys");
};

/// Writes a warp's weighted values and sums to shared memory.
template <class T, int kDim>
__device__ __forceinline__ void put_sums(const OnlineSoftmax<T, kDim, 1>& softmax, float* values, PartSums* sums) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = 8 * half + lane / 4;
    float* to = values + row * SplitTiles<kDim>::kRowFloats + 2 * (lane % 4);
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
      store8(to + 8 * n, make_uint2(__float_as_uint(softmax.values[0][n][2 * half]),
                                    __float_as_uint(softmax.values[0][n][2 * half + 1])));
    }
    if (lane % 4 == 0) sums[row] = {softmax.top[0][half], softmax.total[0][half]};
  }
}

/// The sums of several parts of the keys as one: parts that saw nothing count for nothing.
struct Combined {
  float top = kMaskedScore;
  float total = 0.0f;

  /// What the next part's values are to be multiplied with, after those gathered so far were multiplied with `keep`.
  __device__ __forceinline__ float add(PartSums part, float& keep) {
    const float next = fmaxf(top, part.x);
    const float shift = next == kMaskedScore ? 0.0f : next;
    keep = exp2_approx(top - shift);
    const float weight = exp2_approx(part.x - shift);
    top = next;
    total = total * keep + part.y * weight;
    return weight;
  }
};

/// Puts the sums of a block's warps together: as results, or as a part of them where the context needs several blocks.
template <class T, int kDim>
__device__ __forceinline__ void put_together(const CachedArguments<T>& arguments, const SlotRun& run, int head,
                                             int split, const float* warp_values, const PartSums* warp_sums) {
  using Tiles = SplitTiles<kDim>;
  const int width = arguments.heads * kDim;
  T* out = run_results<kDim>(arguments, run, head);
  const int64_t parts = (static_cast<int64_t>(blockIdx.z) * arguments.heads + head) * kSplitQueries;
  for (int i = static_cast<int>(threadIdx.x); i < run.count * kDim / 2; i += kAttentionThreads) {
    const int row = i / (kDim / 2);
    const int element = i % (kDim / 2) * 2;
    Combined combined;
    float2 sum = {0.0f, 0.0f};
#pragma unroll
    for (int w = 0; w < kAttentionWarps; ++w) {
      float keep = 0.0f;
      const float weight = combined.add(warp_sums[w * kSplitQueries + row], keep);
      const uint2 value = load8(warp_values + w * Tiles::kWarpFloats + row * Tiles::kRowFloats + element);
      sum.x = sum.x * keep + __uint_as_float(value.x) * weight;
      sum.y = sum.y * keep + __uint_as_float(value.y) * weight;
    }
    if (run.position + run.count <= kSplitKeys) {
      const float factor = inverse_total(combined.total);
      store_pair(out + static_cast<int64_t>(row) * width + element, pack2<T>(sum.x * factor, sum.y * factor));
    } else {
      const int64_t part = (parts + row) * arguments.splits + split;
      store8(arguments.part_values + part * kDim + element, make_uint2(__float_as_uint(sum.x), __float_as_uint(sum.y)));
      if (element == 0) arguments.part_sums[part] = {combined.top, combined.total};
    }
  }
}

/// Grid: splits of the context, heads, runs.
template <class T, int kDim>
__global__ void __launch_bounds__(kAttentionThreads, 2) split_kernel(CachedArguments<T> arguments) {
  using Tiles = SplitTiles<kDim>;
  constexpr int kKeys = Tiles::kKeys;
  using QueryCopy = TileCopy<T, kDim, kSplitQueries, kAttentionThreads>;
  using KeyCopy = TileCopy<T, kDim, kKeys, kAttentionThreads>;
  GATO_DYNAMIC_SHARED(T, query_tile);
  GATO_SHARED(PartSums, warp_sums, kAttentionWarps * kSplitQueries);
  T* key_tiles = query_tile + kSplitQueries * kDim;
  const int split = static_cast<int>(blockIdx.x);
  const int head = static_cast<int>(blockIdx.y);
  const SlotRun run = arguments.runs[blockIdx.z];
  const int context = run.position + run.count;
  const int first_key = split * kSplitKeys;
  const int end = min(first_key + kSplitKeys, context);
  if (!fits(run, arguments) || run.count > kSplitQueries || first_key >= context) return;

  const int width = arguments.heads * kDim;
  const T* keys = slot_head<kDim>(arguments.keys, arguments, run.slot, head);
  const T* values = slot_head<kDim>(arguments.values, arguments, run.slot, head);
  const auto copy_keys = [&](int key, int stage) {
    T* tile = key_tiles + stage * 2 * kKeys * kDim;
    KeyCopy::start(tile, keys, kDim, key, end);
    KeyCopy::start(tile + kKeys * kDim, values, kDim, key, end);
  };
  QueryCopy::start(query_tile, run_queries<kDim>(arguments, run, head), 3 * width, 0, run.count);
  copy_keys(first_key, 0);
  cp_async_commit();
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  QueryRows<1> rows;
  rows.set(run.position, context - 1);
  cp_async_wait<0>();
  if (arguments.rotary.cosine != nullptr) {
    QueryCopy::rotate(query_tile, arguments.rotary, run.count,
                      SlotPositions{run.position, arguments.rotary.last_position});
  }
  OnlineSoftmax<T, kDim, 1> softmax;
  softmax.clear();
  attend<kKeys, Tiles::kColumns>(softmax, rows, arguments.scale_log2, query_tile, 0, key_tiles, warp * Tiles::kColumns,
                                 first_key, end, copy_keys, [](int, int) {});
  softmax.finish();
  __syncthreads();  // the tiles of keys have served
  float* warp_values = reinterpret_cast<float*>(key_tiles);
  put_sums(softmax, warp_values + warp * Tiles::kWarpFloats, warp_sums + warp * kSplitQueries);
  __syncthreads();

  put_together<T, kDim>(arguments, run, head, split, warp_values, warp_sums);
}

// ---------------------------------------------------------------------------------------------------------- combine

/// Grid: tiles of kAttentionWarps queries, heads, runs. A warp has one query, a lane every 32nd pair of its elements.
template <class T, int kDim>
__global__ void __launch_bounds__(kAttentionThreads) combine_kernel(CachedArguments<T> arguments) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int head = static_cast<int>(blockIdx.y);
  const SlotRun run = arguments.runs[blockIdx.z];
  const int row = static_cast<int>(blockIdx.x) * kAttentionWarps + static_cast<int>(threadIdx.x) / kWarpSize;
  const int context = run.position + run.count;
  if (!fits(run, arguments) || run.count > kSplitQueries || row >= run.count || context <= kSplitKeys) return;
  const int64_t first_part =
      ((static_cast<int64_t>(blockIdx.z) * arguments.heads + head) * kSplitQueries + row) * arguments.splits;
  T* out = run_results<kDim>(arguments, run, head) + static_cast<int64_t>(row) * arguments.heads * kDim;
  const int splits = (context + kSplitKeys - 1) / kSplitKeys;
  for (int element = 2 * lane; element < kDim; element += 2 * kWarpSize) {
    Combined combined;
    float2 sum = {0.0f, 0.0f};
    for (int split = 0; split < splits; ++split) {
      float keep = 0.0f;
      const float weight = combined.add(arguments.part_sums[first_part + split], keep);
      const uint2 value = load8(arguments.part_values + (first_part + split) * kDim + element);
      sum.x = sum.x * keep + __uint_as_float(value.x) * weight;
      sum.y = sum.y * keep + __uint_as_float(value.y) * weight;
    }
    const float factor = inverse_total(combined.total);
    store_pair(out + element, pack2<T>(sum.x * factor, sum.y * factor));
  }
}

// ---------------------------------------------------------------------------------------------------------- prefill

/// Fewer queries per block than attention_forward has: a prefill has few blocks.
template <int kDim>
struct PrefillTiles {
  static constexpr int kRowTiles = 1;
  static constexpr int kQueries = kAttentionWarps * 16 * kRowTiles;
  static constexpr int kKeys = 64;
  static constexpr int kElements = (kQueries + 4 * kKeys) * kDim;  ///< Queries and twice keys and values.
};

/// Grid: tiles of a run's queries, heads, runs.
template <class T, int kDim>
__global__ void __launch_bounds__(kAttentionThreads, 2) prefill_kernel(CachedArguments<T> arguments) {
  using Tiles = PrefillTiles<kDim>;
  constexpr int kKeys = Tiles::kKeys;
  using QueryCopy = TileCopy<T, kDim, Tiles::kQueries, kAttentionThreads>;
  using KeyCopy = TileCopy<T, kDim, kKeys, kAttentionThreads>;
  GATO_DYNAMIC_SHARED(T, query_tile);
  T* key_tiles = query_tile + Tiles::kQueries * kDim;
  const int head = static_cast<int>(blockIdx.y);
  const SlotRun run = arguments.runs[blockIdx.z];
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * Tiles::kQueries;  // tiles with most keys go first
  if (!fits(run, arguments) || run.count <= kSplitQueries || first >= run.count) return;

  const int end = run.position + min(first + Tiles::kQueries, run.count);
  const int width = arguments.heads * kDim;
  const auto copy_keys = [&](int key, int stage) {
    T* tile = key_tiles + stage * 2 * kKeys * kDim;
    KeyCopy::start(tile, slot_head<kDim>(arguments.keys, arguments, run.slot, head), kDim, key, end);
    KeyCopy::start(tile + kKeys * kDim, slot_head<kDim>(arguments.values, arguments, run.slot, head), kDim, key, end);
  };
  QueryCopy::start(query_tile, run_queries<kDim>(arguments, run, head), 3 * width, first, run.count);
  copy_keys(0, 0);
  cp_async_commit();
  const int warp_row = static_cast<int>(threadIdx.x) / kWarpSize * 16 * Tiles::kRowTiles;
  QueryRows<Tiles::kRowTiles> rows;
  rows.set(run.position + first + warp_row, run.position + run.count - 1);
  cp_async_wait<0>();
  if (arguments.rotary.cosine != nullptr) {
    QueryCopy::rotate(query_tile, arguments.rotary, run.count - first,
                      SlotPositions{run.position + first, arguments.rotary.last_position});
  }
  OnlineSoftmax<T, kDim, Tiles::kRowTiles> softmax;
  softmax.clear();
  attend<kKeys, kKeys>(softmax, rows, arguments.scale_log2, query_tile, warp_row, key_tiles, 0, 0, end, copy_keys,
                       [](int, int) {});
  write_rows(softmax, query_tile, warp_row, run_results<kDim>(arguments, run, head), width, nullptr, first + warp_row,
             run.count);
}

// -------------------------------------------------------------------------------------------------------- host side

[[nodiscard]] int64_t num_splits(const CachedAttention& call) {
  return (call.most_context + kSplitKeys - 1) / kSplitKeys;
}

/// Parts of all splits of all queries that may be split; 0 where one block holds the whole context.
[[nodiscard]] size_t num_parts(const CachedAttention& call) {
  if (num_splits(call) <= 1) return 0;
  return static_cast<size_t>(call.num_runs) * static_cast<size_t>(call.heads) * kSplitQueries *
         static_cast<size_t>(num_splits(call));
}

template <class T, int kDim>
void launch_cached(const CachedAttention& call, Stream stream) {
  auto* part_values = static_cast<float*>(call.workspace);
  const CachedArguments<T> arguments{static_cast<const T*>(call.qkv),
                                     static_cast<T*>(call.out),
                                     static_cast<T*>(call.cache.keys),
                                     static_cast<T*>(call.cache.values),
                                     call.runs,
                                     part_values,
                                     reinterpret_cast<PartSums*>(part_values + num_parts(call) * kDim),
                                     device_rotary(call.rotary),
                                     static_cast<int>(call.tokens),
                                     static_cast<int>(call.heads),
                                     static_cast<int>(call.cache.slots),
                                     static_cast<int>(call.cache.capacity),
                                     static_cast<int>(call.most_new),
                                     static_cast<int>(call.most_context),
                                     static_cast<int>(num_splits(call)),
                                     log2_scale(kDim)};
  const dim3 block(kAttentionThreads);
  const auto grid = [&](int64_t tiles) {
    return dim3(static_cast<unsigned>(tiles), static_cast<unsigned>(call.heads), static_cast<unsigned>(call.num_runs));
  };
  constexpr int64_t kStoreTokens = kAttentionThreads / (kDim / 2 / kChunk);
  constexpr int64_t kPrefillQueries = PrefillTiles<kDim>::kQueries;
  launch({"cached_attention_store", grid((call.most_new + kStoreTokens - 1) / kStoreTokens), block, 0, stream},
         store_kernel<T, kDim>, arguments);
  launch({"cached_attention_split", grid(num_splits(call)), block, SplitTiles<kDim>::kElements * sizeof(T), stream},
         split_kernel<T, kDim>, arguments);
  if (num_splits(call) > 1) {
    const int64_t queries = std::min<int64_t>(call.most_new, kSplitQueries);
    launch({"cached_attention_combine", grid((queries + kAttentionWarps - 1) / kAttentionWarps), block, 0, stream},
           combine_kernel<T, kDim>, arguments);
  }
  if (call.most_new > kSplitQueries) {
    launch({"cached_attention_prefill", grid((call.most_new + kPrefillQueries - 1) / kPrefillQueries), block,
            PrefillTiles<kDim>::kElements * sizeof(T), stream},
           prefill_kernel<T, kDim>, arguments);
  }
}

void check_cached(const CachedAttention& call) {
  constexpr const char* kName = "cached_attention";
  constexpr int64_t kMostElements = std::numeric_limits<int32_t>::max();
  const AttentionShape shape{call.num_runs, call.tokens, call.heads, call.head_dim, call.element};
  check_attention_shape(shape, kName);
  GATO_CHECK(call.most_new >= 0 && call.most_context >= 0 && call.most_new <= call.most_context &&
                 call.most_context <= call.cache.capacity,
             kName, ": at most ", call.most_new, " new tokens and ", call.most_context,
             " tokens of context do not fit a capacity of ", call.cache.capacity);
  GATO_CHECK(call.cache.slots >= 0 && call.cache.slots <= kMostElements &&
                 call.cache.capacity <= kMostElements / call.head_dim &&
                 call.tokens <= kMostElements / (3 * std::max<int64_t>(call.heads, 1) * call.head_dim),
             kName, ": ", call.tokens, " tokens of ", call.heads, " heads, ", call.cache.slots, " slots of ",
             call.cache.capacity, " tokens: a head's slot and the call must have less than 2^31 elements each");
}

}  // namespace

size_t cached_attention_workspace(const CachedAttention& call) {
  return num_parts(call) * (static_cast<size_t>(call.head_dim) * sizeof(float) + sizeof(PartSums));
}

void cached_attention(const CachedAttention& call, Stream stream) {
  constexpr const char* kName = "cached_attention";
  check_cached(call);
  if (call.tokens == 0 || call.heads == 0 || call.num_runs == 0 || call.most_new == 0) return;
  check_device_pointer(call.qkv, 16, kName, "qkv");
  check_device_pointer(call.out, 16, kName, "out");
  check_device_pointer(call.runs, alignof(SlotRun), kName, "runs");
  check_device_pointer(call.cache.keys, 16, kName, "cache.keys");
  check_device_pointer(call.cache.values, 16, kName, "cache.values");
  check_rotary_view(call.rotary, kName);
  if (cached_attention_workspace(call) > 0) check_device_pointer(call.workspace, 16, kName, "workspace");
  with_half_type(call.element, [&]<class T>(T) {
    with_head_dim(call.head_dim, [&](auto dim) { launch_cached<T, decltype(dim)::value>(call, stream); });
  });
}

}  // namespace gato::kernels::cuda
