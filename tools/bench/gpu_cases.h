#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "gato/kernels/attention_route.h"

/// What tools/bench/gpu measures: operations of the kernels module on one device, timed. Tests run them on emulated
/// kernels, where the times mean nothing.
namespace gato::bench {

/// How long is measured: the median of `samples`, each of as many calls as fit into `seconds_per_sample` (at least 1).
struct Timing {
  double seconds_per_sample = 0.02;
  int samples = 7;
};

/// One layer's attention. `mean_document` 0: a row is one document; else documents of 1 to 2 mean - 1 tokens.
struct AttentionCase {
  int64_t rows = 0, tokens = 0, heads = 0, head_dim = 0;
  int64_t mean_document = 0;
};

/// int32 [rows, tokens] on the CPU, the same for equal cases. Throws ConfigError for sizes that make no sense.
[[nodiscard]] at::Tensor make_sequence_starts(const AttentionCase& sizes);

/// Queries and keys that see each other, over all rows, for one head: forward is 4 x head_dim operations for each.
[[nodiscard]] double visible_pairs(const at::Tensor& sequence_starts);

struct AttentionFigure {
  kernels::AttentionRoute route = kernels::AttentionRoute::kReference;
  std::string problem;                               ///< Why there are no times; "" when there are.
  double forward_seconds = 0, backward_seconds = 0;  ///< Of all rows.
  double difference = 0;                             ///< From the reference, as in AttentionTrial.
};
/// Every route on bf16 queries, keys and values with rotary positions. Leaves the process's route at kAuto.
[[nodiscard]] std::vector<AttentionFigure> measure_attention(const AttentionCase& sizes, at::Device device,
                                                             const Timing& timing);

/// Sizes of what only moves memory.
struct StreamingCase {
  int64_t tokens = 0, width = 0, hidden = 0;  ///< `hidden`: gate and value together.
  int64_t vocabulary = 0, loss_positions = 0;
  int64_t parameters = 0;
  int64_t copy_bytes = 0;  ///< Of the copy that the others are compared with.
};
struct StreamingFigure {
  std::string name;
  double bytes = 0;  ///< That must be read or written, each once.
  double seconds = 0;
};
/// "copy" (the device's own) first, then norm, GEGLU, loss, scatter, sums and optimizer, activations in bf16. For
/// devices with operations of their own: throws ContractError for others.
[[nodiscard]] std::vector<StreamingFigure> measure_streaming(const StreamingCase& sizes, at::Device device,
                                                             const Timing& timing);

/// Seconds of the head with its loss, forward and backward, where a share of `tokens` positions has loss.
[[nodiscard]] double measure_head(int64_t tokens, int64_t width, int64_t vocabulary, double share, at::Device device,
                                  const Timing& timing);

}  // namespace gato::bench
