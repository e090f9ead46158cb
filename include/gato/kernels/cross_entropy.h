#pragma once
#include "gato/kernels/parameter.h"

namespace gato::kernels {

/// Targets spread over neighbouring value bins: a target inside [first_id, first_id + num_ids) becomes a Gaussian of
/// `sigma` bins over that range, normalised inside it. sigma 0: hard targets.
struct SoftTargets {
  int64_t first_id = 0, num_ids = 0;
  double sigma = 0;
};

struct CrossEntropyResult {
  at::Tensor
      loss;        ///< Scalar, differentiable: sum over positions of weight x cross entropy. Summed in fp64, then fp32.
  at::Tensor nll;  ///< [P], detached: -log p(target) with hard targets, unweighted.
};

/// The head, only where there is loss: gathers `hidden` [N, C], fp32 or bf16, at `positions` (int64 [P], ascending,
/// each at most once), multiplies with `table` [V, C] and compares with `targets` (int64 [P], in [0, V)), weighted by
/// `weights` (fp32 [P]). Logits have hidden's type, everything computed from them is fp32. Logits are never held for
/// more than `max_logits` elements at once; beyond that backward computes them again.
[[nodiscard]] CrossEntropyResult head_cross_entropy(const at::Tensor& hidden, const Parameter& table,
                                                    const at::Tensor& positions, const at::Tensor& targets,
                                                    const at::Tensor& weights, const SoftTargets& soft = {},
                                                    int64_t max_logits = int64_t{1} << 24);

}  // namespace gato::kernels
