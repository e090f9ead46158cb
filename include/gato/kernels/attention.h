#pragma once
#include <cstdint>

#include "gato/kernels/parameter.h"

namespace gato::kernels {

/// Sines and cosines of rotary position encodings (Su et al. 2021, "RoFormer"), element i of a head's first half being
/// rotated with element i of its second half by the angle position x base^(-2 i / D).
struct RotaryTable {
  at::Tensor cosine, sine;  ///< [positions, D / 2].
  [[nodiscard]] bool defined() const { return cosine.defined(); }
};
[[nodiscard]] RotaryTable make_rotary_table(int64_t positions, int64_t head_dim, double base);

/// The sequences of rows one after the other, as attention for sequences of different lengths wants them.
struct SequenceBounds {
  at::Tensor boundaries;  ///< int32 [S + 1]: flat place b x T + t where each of S sequences starts, and B x T.
  int64_t longest = 0;    ///< Tokens of the longest one.
  [[nodiscard]] bool defined() const { return boundaries.defined(); }
};
/// From `sequence_start` [B, T]. Waits for the device.
[[nodiscard]] SequenceBounds sequence_bounds(const at::Tensor& sequence_start);

/// Causal softmax attention inside the sequences of a row.
///
/// `qkv` [B, T, 3, H, D], fp32 or bf16, holds queries, keys, values. `sequence_start` int32 [B, T] is the row offset
/// where the token's sequence starts: a token attends to [sequence_start, itself]. Scores are scaled by D^-1/2. With a
/// `rotary` table, queries and keys are rotated by the token's index inside its sequence; it must have at least as many
/// positions as the longest sequence (T is always enough). Returns [B, T, H, D] of qkv's type.
///
/// Time and memory follow the lengths of the sequences, not T^2. Throws ContractError for wrong shapes and, on the CPU,
/// for starts that are no partition of the row into consecutive sequences. By the route of
/// gato/kernels/attention_route.h; those of LibTorch use `bounds`, which they find themselves, at the cost of waiting
/// for the device, when undefined.
[[nodiscard]] at::Tensor document_attention(const at::Tensor& qkv, const at::Tensor& sequence_start,
                                            const RotaryTable& rotary = {}, const SequenceBounds& bounds = {});

}  // namespace gato::kernels
