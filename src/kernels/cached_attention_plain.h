#pragma once
#include <span>

#include "gato/kernels/cached_attention.h"

namespace gato::kernels {

/// Attention over a device's cache by plain tensor operations: for types, head dimensions and positions that no kernel
/// takes, and while ours are not proven. Arguments as those of cached_attention, checked; `run_table` on the device of
/// `qkv`; `distances` null for scores without relative positions. Stores and computes in fp32 up to the cache's type;
/// the products of several slots share a shape, so contexts are read as long as the longest one. Waits for nothing.
[[nodiscard]] at::Tensor attend_to_cache_plainly(const at::Tensor& qkv, std::span<const CacheRun> runs,
                                                 const at::Tensor& run_table, const AttentionCache& cache,
                                                 const RotaryTable& rotary, const CachedDistances* distances);

/// The same for one token of each slot, arguments as those of cached_attention_of_table.
[[nodiscard]] at::Tensor attend_to_table_plainly(const at::Tensor& qkv, const at::Tensor& run_table,
                                                 int64_t most_context, const AttentionCache& cache,
                                                 const RotaryTable& rotary, const CachedDistances* distances);

}  // namespace gato::kernels
