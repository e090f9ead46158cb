#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "gato/model/config.h"

namespace gato::model {

/// One line of a table: what, and how much (parameters, bytes).
struct NamedCount {
  std::string name;
  int64_t count = 0;
};
[[nodiscard]] int64_t total(const std::vector<NamedCount>& parts);

/// Parameters by part: "token table", "head" (untied), "positions", "patch embedder", "attention", "feed-forward",
/// "norms".
[[nodiscard]] std::vector<NamedCount> parameters_by_part(const ModelConfig& config, const ModelShape& shape);

/// Of the parameters those of which, computing in bf16, nothing but the optimizer reads fp32 values: what several
/// processes divide among themselves with train.shard_optimizer. 0 for fp32.
[[nodiscard]] int64_t divisible_parameters(const ModelConfig& config, const ModelShape& shape);

/// What one process computes at once.
struct StepShape {
  int64_t rows = 0, row_tokens = 0;
  int64_t loss_positions = 0;  ///< Of all rows together.
  int64_t patches = 0;         ///< Of all rows together.
  bool recompute = false;      ///< ForwardOptions::recompute.
};

/// Bytes of what is kept for the whole run: values, gradients and two moments in fp32, and the bf16 copy where used.
[[nodiscard]] std::vector<NamedCount> state_bytes(const ModelConfig& config, const ModelShape& shape);

/// Bytes of everything that forward keeps for backward, tensor by tensor, summed over layers, and of what backward
/// needs on top at its peak ("temporary, in backward"). Within 10 % of the measured peak; libraries' own
/// scratch memory is not counted.
[[nodiscard]] std::vector<NamedCount> activation_bytes(const ModelConfig& config, const ModelShape& shape,
                                                       const StepShape& step);

/// Floating-point operations of one training step (forward and backward, a multiply-add counts as two): matrix products
/// of blocks, head at the loss positions and patch embedder, and attention over sequences of `sequence_tokens` on
/// average.
[[nodiscard]] double training_flops(const ModelConfig& config, const ModelShape& shape, const StepShape& step,
                                    double sequence_tokens);

}  // namespace gato::model
