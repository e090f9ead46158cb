#pragma once
#include <span>
#include <utility>
#include <vector>

#include "gato/kernels/attention.h"
#include "gato/kernels/cross_entropy.h"
#include "gato/kernels/embedding.h"
#include "gato/kernels/optimizer.h"
#include "gato/kernels/patch_embedder.h"

/// Every operation once more in plain tensor operations, differentiated by LibTorch itself: what the fast versions are
/// checked against. Slow, any device, fp32 or fp64. Parameters are ordinary tensors here.
namespace gato::kernels::reference {

[[nodiscard]] at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias);

/// By a masked softmax over whole rows.
[[nodiscard]] at::Tensor document_attention(const at::Tensor& qkv, const at::Tensor& sequence_start,
                                            const RotaryTable& rotary);

/// The scores of kernels::relative_attention by gathering one distance for every query and key; `distance_keys` as
/// there.
[[nodiscard]] at::Tensor relative_attention(const at::Tensor& qkv, const at::Tensor& sequence_start,
                                            const at::Tensor& distance_keys, const at::Tensor& content_bias,
                                            const at::Tensor& position_bias);

/// (sum, normalised) of kernels::residual_layer_norm; `delta` and `scale` may be undefined.
[[nodiscard]] std::pair<at::Tensor, at::Tensor> residual_layer_norm(const at::Tensor& x, const at::Tensor& delta,
                                                                    const at::Tensor& scale, const at::Tensor& gain,
                                                                    const at::Tensor& offset);

[[nodiscard]] at::Tensor geglu(const at::Tensor& x);

struct Tables {
  at::Tensor tokens, local_positions, patch_rows, patch_columns;
};
[[nodiscard]] at::Tensor embed(const EmbeddingInput& input, const Tables& tables, const at::Tensor& patch_vectors);

[[nodiscard]] CrossEntropyResult head_cross_entropy(const at::Tensor& hidden, const at::Tensor& table,
                                                    const at::Tensor& positions, const at::Tensor& targets,
                                                    const at::Tensor& weights, const SoftTargets& soft);

/// `parameters`: the values of PatchEmbedderParameters in the order of its members.
[[nodiscard]] at::Tensor embed_patches(const at::Tensor& patches, const std::vector<at::Tensor>& parameters,
                                       int64_t groups, int64_t stride);

void adamw_step(const at::Tensor& values, const at::Tensor& gradients, const at::Tensor& first_moment,
                const at::Tensor& second_moment, std::span<const UpdateSpan> spans, const AdamWStep& step);

}  // namespace gato::kernels::reference
