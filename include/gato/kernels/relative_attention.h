#pragma once
#include <cstdint>

#include "gato/kernels/parameter.h"

namespace gato::kernels {

/// Sinusoids of the distances between a query and a key (Dai et al. 2019, "Transformer-XL", section 3.3 and appendix
/// B): fp32 [distances, width], row i for the distance distances - 1 - i, so that the last row is a token's distance to
/// itself. Columns: sines of distance x 10000^(-2 k / width), then cosines.
[[nodiscard]] at::Tensor make_distance_table(int64_t distances, int64_t width);

/// Parameters of relative positions.
struct RelativeBiases {
  Parameter content;   ///< [H, D], "u" in the paper: added to queries before they meet keys.
  Parameter position;  ///< [H, D], "v" in the paper: added to queries before they meet distances.
};

/// Causal softmax attention inside the sequences of a row, as document_attention, with the scores of Transformer-XL:
/// query i and key j give D^-1/2 ((q_i + u) k_j + (q_i + v) r_(i - j)). `distance_keys` [R, H, D] holds the r,
/// projected rows of make_distance_table(R), R at least the length of the longest sequence (T is always enough); its
/// gradient goes through the graph. Made of plain tensor operations over blocks of queries; scratch memory stays below
/// about 64 MiB. `sequence_start` is read by the CPU: where the rest is on a GPU, a copy on the CPU saves waiting for
/// it in every call. Throws ContractError as document_attention does.
[[nodiscard]] at::Tensor relative_attention(const at::Tensor& qkv, const at::Tensor& sequence_start,
                                            const at::Tensor& distance_keys, const RelativeBiases& biases);

/// Floats of the largest matrix of scores that relative_attention holds for a sequence, all heads together; backward
/// holds four of them.
[[nodiscard]] int64_t relative_scores_at_once(int64_t sequence_tokens, int64_t heads);

}  // namespace gato::kernels
