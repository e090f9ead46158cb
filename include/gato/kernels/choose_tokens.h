#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

#include "gato/kernels/token_choice.h"

namespace gato::kernels {

/// The most ids that kSample may be among on a device.
constexpr int32_t kMostSampledOnDevice = 65536;

/// n sequences on a device that take one token after the other, as the device's operations read and write it. Whoever
/// fills it may replay work that was captured with it.
struct ChoiceState {
  at::Tensor choices;          ///< Bytes of TokenChoice [rounds, n]: what each sequence may take in its round.
  at::Tensor round;            ///< int32 [n]: of the token to be chosen next.
  at::Tensor runs;             ///< int32 [n, 4], rows as write_run_table gives them: the token that came last, and
                               ///< count 1; 0 for a sequence that takes no part.
  at::Tensor ids;              ///< int32 [n]: chosen last.
  at::Tensor local_positions;  ///< int32 [n]: of those.
  at::Tensor chosen;           ///< int32 [rounds, n]: all that were chosen; elsewhere as it was before.

  [[nodiscard]] int64_t rounds() const { return chosen.size(0); }
  [[nodiscard]] int64_t size() const { return ids.size(0); }
};

/// Chooses a token of every sequence that takes part as choose_token() does, and makes the state that of its appending:
/// `runs`, `ids` and `local_positions` are those of the new token, `round` is the next. A sequence whose choice has
/// that end_id takes no further part, nor does one whose choice makes no sense, which `chosen` tells by -1. `logits`,
/// fp32 or bf16 [n, columns], are those of ids [first_id, first_id + columns), which have all that any sequence may
/// take now. Every round must be in [0, rounds). Waits for nothing.
///
/// Throws ContractError for shapes that do not fit, and on the CPU, which has choose_token().
void choose_tokens(const at::Tensor& logits, int64_t first_id, const ChoiceState& state);

}  // namespace gato::kernels
