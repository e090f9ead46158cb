#pragma once
#include <cstdint>
#include <span>

#include "gato/kernels/attention.h"
#include "gato/kernels/relative_attention.h"

namespace gato::kernels {

/// Keys and values of a number of slots, one layer's, fp32 or bf16. Made by make_attention_cache.
struct AttentionCache {
  at::Tensor keys;    ///< [slots, H, capacity / 32, D, 32], rotated; capacity is max_tokens with padding.
  at::Tensor values;  ///< [slots, H, capacity, D with padding].
  int64_t max_tokens = 0;
};

/// An empty cache. The system gives its memory when tokens come, not before.
[[nodiscard]] AttentionCache make_attention_cache(int64_t slots, int64_t max_tokens, int64_t heads, int64_t head_dim,
                                                  at::ScalarType dtype = at::kFloat);

/// Consecutive new tokens of one slot, the first of which is number `position` of the slot.
struct CacheRun {
  int64_t slot = 0, position = 0, count = 0;
};

/// Attention of new tokens over what their slots hold. `qkv` [n, 3, H, D], fp32 or bf16 (fp32 beside an fp32 cache
/// only), are the tokens of the runs, one after the other; each slot at most once. Stores the new keys and values, then
/// lets every token attend to [0, its position] of its slot. Returns [n, H, D] of qkv's type. A token's result is the
/// same bits whatever other tokens and slots come with it. No gradients.
[[nodiscard]] at::Tensor cached_attention(const at::Tensor& qkv, std::span<const CacheRun> runs,
                                          const AttentionCache& cache, const RotaryTable& rotary = {});

/// Distances and biases of relative_attention as cached attention reads them: copies.
struct CachedDistances {
  at::Tensor columns;                      ///< [H, D, count with padding].
  at::Tensor content_bias, position_bias;  ///< [H, D].
  int64_t count = 0;
};
/// Of `distance_keys` [count, H, D].
[[nodiscard]] CachedDistances make_cached_distances(const at::Tensor& distance_keys, const RelativeBiases& biases);

/// cached_attention with the scores of relative_attention. There must be at least as many distances as any slot holds
/// tokens behind the call.
[[nodiscard]] at::Tensor cached_relative_attention(const at::Tensor& qkv, std::span<const CacheRun> runs,
                                                   const AttentionCache& cache, const CachedDistances& distances);

}  // namespace gato::kernels
