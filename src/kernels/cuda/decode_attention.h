#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/cuda/attention.h"  // RotaryView
#include "kernels/cuda/types.h"      // Element, Stream

// Attention of new tokens over cached keys and values: the device's form of kernels::cached_attention.
// docs/attention_kernels.md says how it works.
namespace gato::kernels::cuda {

/// Consecutive new tokens of one slot, in device memory: token `first` of the call is number `position` of the slot. A
/// run of 0 tokens is skipped, so a captured graph may serve fewer runs than it was captured for.
struct SlotRun {
  int32_t slot = 0, position = 0, count = 0, first = 0;
};

/// Keys (rotated) and values of one layer's slots, each a contiguous [slots, heads, capacity, head_dim] of the call's
/// element type in device memory, 16-byte aligned. Needs no initialisation.
struct SlotCache {
  void* keys = nullptr;
  void* values = nullptr;
  int64_t slots = 0, capacity = 0;
};

/// Arguments of cached_attention. All pointers but those to structs are to device memory.
struct CachedAttention {
  int64_t tokens = 0, heads = 0, head_dim = 0;  ///< `head_dim` 32, 64 or 128; heads at most 65535.
  Element element = Element::kBFloat16;         ///< Or kFloat16; of qkv, cache and out.
  const void* qkv = nullptr;                    ///< [tokens, 3, heads, head_dim]
  void* out = nullptr;                          ///< [tokens, heads, head_dim]
  /// [num_runs]; every slot at most once. Runs that do not fit the cache or the call's tokens are the caller's mistake,
  /// which the device cannot report: it leaves their results alone. At most 65535 runs.
  const SlotRun* runs = nullptr;
  int64_t num_runs = 0;
  int64_t most_new = 0;      ///< Not less than any run's count. What it promises too much costs empty blocks.
  int64_t most_context = 0;  ///< Not less than any run's position + count, nor more than the capacity.
  SlotCache cache;
  RotaryView rotary;
  void* workspace = nullptr;  ///< cached_attention_workspace() bytes of device memory, 16-byte aligned; null for 0.
};

/// Bytes of scratch memory that cached_attention needs; read from the call are num_runs, most_new, most_context, heads
/// and head_dim.
[[nodiscard]] size_t cached_attention_workspace(const CachedAttention& call);

/// Stores the new keys and values, then lets every token attend to [0, its position] of its slot. Runs of up to 16
/// tokens share the context among blocks, 256 keys each, whose results are combined in order; longer ones go by tiles
/// of queries as in attention_forward. The bits of a slot's results depend on nothing but the slot's tokens and its
/// run. Errors and promises as for attention_forward; may be captured with bounds that hold for all replays.
void cached_attention(const CachedAttention& call, Stream stream);

}  // namespace gato::kernels::cuda
