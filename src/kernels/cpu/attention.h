#pragma once
#include <cstdint>

#include "kernels/cpu/lanes.h"

namespace gato::kernels::cpu {

/// Queries, keys, values, results and their gradients are floats or Bf16; all sums are of floats.

/// Sizes of queries, keys and values [rows, tokens, 3, heads, head_dim]; rotary tables [positions, head_dim / 2] or
/// null.
struct AttentionShape {
  int64_t rows, tokens, heads, head_dim;
  const float* cosine;
  const float* sine;
};

/// One head of one row: writes `out` [rows, tokens, heads, head_dim] and the log of each query's softmax denominator
/// (maximum included), `log_sum` [rows, heads, tokens]. `starts` [rows, tokens] must be a valid partition.
void attention_forward(const AttentionShape& shape, int64_t row, int64_t head, const float* qkv, const int32_t* starts,
                       float* out, float* log_sum);
void attention_forward(const AttentionShape& shape, int64_t row, int64_t head, const Bf16* qkv, const int32_t* starts,
                       Bf16* out, float* log_sum);

/// The gradient `qkv_gradient`, shaped like `qkv`, of the same head.
void attention_backward(const AttentionShape& shape, int64_t row, int64_t head, const float* qkv, const int32_t* starts,
                        const float* log_sum, const float* out_gradient, float* qkv_gradient);
void attention_backward(const AttentionShape& shape, int64_t row, int64_t head, const Bf16* qkv, const int32_t* starts,
                        const float* log_sum, const Bf16* out_gradient, Bf16* qkv_gradient);

/// Keys [slots, heads, capacity / 32, head_dim, 32] and values [slots, heads, capacity, lanes], floats or Bf16,
/// capacity a multiple of 32 and lanes head_dim rounded up to 16, or to 32 for Bf16. Of every 32 Bf16 in a row, number
/// j and number 16 + j are neighbours, so that a shift and a mask make floats of them. Unused places hold finite
/// numbers.
constexpr int64_t kCacheTile = 2 * kLanes;
[[nodiscard]] constexpr int64_t cache_lanes(int64_t head_dim, bool bf16) {
  return round_up(head_dim, bf16 ? kCacheTile : kLanes);
}
template <class C>
struct CacheView {
  C* keys;
  C* values;
  int64_t capacity, lanes;
};

/// Scores of Transformer-XL instead of rotary positions: `distances` [heads, head_dim, stride], whose column count - 1
/// - d belongs to distance d; at least 32 columns behind the first `count` hold finite numbers. Biases [heads,
/// head_dim].
struct DistanceView {
  const float* distances;
  const float* content_bias;
  const float* position_bias;
  int64_t count, stride;
};

/// One head of `count` consecutive new tokens of one slot, the first of which is number `position` of the slot. `qkv`
/// [count, 3, heads, head_dim], `out` [count, heads, head_dim]. Stores keys and values first. `distances` may be null.
/// A token's result is the same bits whichever tokens come with it.
void attention_cached(const AttentionShape& shape, const CacheView<float>& cache, const DistanceView* distances,
                      int64_t slot, int64_t head, int64_t position, int64_t count, const float* qkv, float* out);
void attention_cached(const AttentionShape& shape, const CacheView<float>& cache, const DistanceView* distances,
                      int64_t slot, int64_t head, int64_t position, int64_t count, const Bf16* qkv, Bf16* out);
void attention_cached(const AttentionShape& shape, const CacheView<Bf16>& cache, const DistanceView* distances,
                      int64_t slot, int64_t head, int64_t position, int64_t count, const Bf16* qkv, Bf16* out);

}  // namespace gato::kernels::cpu
