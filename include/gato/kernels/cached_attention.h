#pragma once
#include <cstdint>
#include <span>

#include "gato/kernels/attention.h"
#include "gato/kernels/relative_attention.h"

namespace gato::kernels {

/// Keys and values of a number of slots, one layer's, fp32 or bf16. Made by make_attention_cache. On a GPU both are
/// [slots, H, max_tokens, D].
struct AttentionCache {
  at::Tensor keys;    ///< Rotated. CPU: [slots, H, capacity / 32, D, 32]; capacity is max_tokens with padding.
  at::Tensor values;  ///< CPU: [slots, H, capacity, D with padding].
  int64_t max_tokens = 0;
  bool own_kernels = false;  ///< On a GPU: whether our kernels serve activations of the cache's type.
};

/// An empty cache. On the CPU the system gives its memory when tokens come, not before. On a GPU it is taken at once,
/// and served by our kernels where they take it (bf16, head dimension 32, 64 or 128) and are proven or asked for
/// (AttentionRoute::kOwn).
[[nodiscard]] AttentionCache make_attention_cache(int64_t slots, int64_t max_tokens, int64_t heads, int64_t head_dim,
                                                  at::ScalarType dtype = at::kFloat, at::Device device = at::kCPU);

/// Consecutive new tokens of one slot, the first of which is number `position` of the slot.
struct CacheRun {
  int64_t slot = 0, position = 0, count = 0;
};

/// Runs as a device's operations read them: int32 [runs, 4] with slot, position, count, and number of the run's first
/// token in the call.
constexpr int64_t kRunTableColumns = 4;
void write_run_table(std::span<const CacheRun> runs, std::span<int32_t> table);

/// Attention of new tokens over what their slots hold. `qkv` [n, 3, H, D], fp32 or bf16 (fp32 beside an fp32 cache
/// only), are the tokens of the runs, one after the other; each slot at most once. Stores the new keys and values, then
/// lets every token attend to [0, its position] of its slot. Returns [n, H, D] of qkv's type. No gradients.
///
/// On the CPU a token's result is the same bits whatever other tokens and slots come with it. On a GPU likewise by our
/// kernels, and up to rounding by the plain tensor operations that serve everything else. There `run_table` may hold
/// the runs on the device, so that the layers of a model share one copy; it is made when undefined.
[[nodiscard]] at::Tensor cached_attention(const at::Tensor& qkv, std::span<const CacheRun> runs,
                                          const AttentionCache& cache, const RotaryTable& rotary = {},
                                          const at::Tensor& run_table = {});

/// Distances and biases of relative_attention as cached attention reads them: copies.
struct CachedDistances {
  at::Tensor columns;                      ///< [H, D, count with padding].
  at::Tensor content_bias, position_bias;  ///< [H, D].
  int64_t count = 0;
};
/// Of `distance_keys` [count, H, D].
[[nodiscard]] CachedDistances make_cached_distances(const at::Tensor& distance_keys, const RelativeBiases& biases);

/// cached_attention with the scores of relative_attention; on a GPU always by plain tensor operations. There must be at
/// least as many distances as any slot holds tokens behind the call.
[[nodiscard]] at::Tensor cached_relative_attention(const at::Tensor& qkv, std::span<const CacheRun> runs,
                                                   const AttentionCache& cache, const CachedDistances& distances,
                                                   const at::Tensor& run_table = {});

/// cached_attention, or cached_relative_attention where `distances` is not null, on a device for one token of each of n
/// slots whose places are known there alone, so that the call may be captured: `qkv` [n, 3, H, D]; row i of
/// `run_table`, int32 [n, 4], says slot and position of token i, and as its number of tokens 1, or 0 for a token that
/// is none: its slot is left alone, its result means nothing. Every position must be below `most_context`, at most
/// max_tokens; it decides how much is launched, and by plain operations how much is read. Throws ContractError on the
/// CPU.
[[nodiscard]] at::Tensor cached_attention_of_table(const at::Tensor& qkv, const at::Tensor& run_table,
                                                   int64_t most_context, const AttentionCache& cache,
                                                   const RotaryTable& rotary, const CachedDistances* distances);

}  // namespace gato::kernels
