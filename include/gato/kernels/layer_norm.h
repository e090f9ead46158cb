#pragma once
#include <utility>

#include "gato/kernels/parameter.h"

namespace gato::kernels {

constexpr double kLayerNormEpsilon = 1e-5;

/// Layer normalisation of the rows of `x` [N, C] with `gain` and `offset` [C].
[[nodiscard]] at::Tensor layer_norm(const at::Tensor& x, const Parameter& gain, const Parameter& offset);

/// The residual connection and the normalisation behind it in one pass: returns (sum, normalised) with
/// sum = x + scale[row] * delta and normalised = layer_norm(sum). `x` and `delta` [N, C]; `scale` fp32 [B] holds one
/// factor per N / B consecutive rows (stochastic depth: 0 or 1 / keep probability), undefined for 1.
[[nodiscard]] std::pair<at::Tensor, at::Tensor> residual_layer_norm(const at::Tensor& x, const at::Tensor& delta,
                                                                    const at::Tensor& scale, const Parameter& gain,
                                                                    const Parameter& offset);

}  // namespace gato::kernels
