#pragma once
#include <utility>

#include "gato/kernels/parameter.h"

namespace gato::kernels {

constexpr double kLayerNormEpsilon = 1e-5;

/// Layer normalisation of the rows of `x` [N, C] with `gain` and `offset` [C]. The result is of type `dtype`,
/// at::kFloat or at::kBFloat16.
[[nodiscard]] at::Tensor layer_norm(const at::Tensor& x, const Parameter& gain, const Parameter& offset,
                                    at::ScalarType dtype = at::kFloat);

/// The residual connection and the normalisation behind it in one pass: returns (sum, normalised) with
/// sum = x + scale[row] * delta and normalised = layer_norm(sum). `x` [N, C] fp32, as `sum` is; `delta`
/// [N, C] fp32 or bf16, which decides the type of `normalised`; `scale` fp32 [B] holds one
/// factor per N / B consecutive rows (stochastic depth: 0 or 1 / keep probability), undefined for 1.
[[nodiscard]] std::pair<at::Tensor, at::Tensor> residual_layer_norm(const at::Tensor& x, const at::Tensor& delta,
                                                                    const at::Tensor& scale, const Parameter& gain,
                                                                    const Parameter& offset);

}  // namespace gato::kernels
