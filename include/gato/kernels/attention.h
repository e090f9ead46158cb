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

/// Causal softmax attention inside the sequences of a row.
///
/// `qkv` [B, T, 3, H, D], fp32 or bf16, holds queries, keys, values. `sequence_start` int32 [B, T] is the row offset
/// where the token's sequence starts: a token attends to [sequence_start, itself]. Scores are scaled by D^-1/2. With a
/// `rotary` table, queries and keys are rotated by the token's index inside its sequence; it must have at least as many
/// positions as the longest sequence (T is always enough). Returns [B, T, H, D] of qkv's type.
///
/// Time and memory follow the lengths of the sequences, not T^2. Throws ContractError for wrong shapes and for starts
/// that are no partition of the row into consecutive sequences.
[[nodiscard]] at::Tensor document_attention(const at::Tensor& qkv, const at::Tensor& sequence_start,
                                            const RotaryTable& rotary = {});

}  // namespace gato::kernels
