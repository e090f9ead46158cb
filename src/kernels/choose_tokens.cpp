#include "gato/kernels/choose_tokens.h"

#include "gato/core/error.h"
#include "gato/core/profile.h"
#include "gato/kernels/cached_attention.h"
#include "kernels/checks.h"
#include "kernels/device_ops.h"

namespace gato::kernels {

void choose_tokens(const at::Tensor& logits, int64_t first_id, const ChoiceState& state) {
  const DeviceOps* ops = device_ops(logits);
  GATO_CHECK(ops != nullptr, "tokens are chosen on a device with operations of its own, not on ",
             logits.device().str());
  check_tensor(state.chosen, "chosen", at::kInt, {-1, -1});
  const int64_t n = state.chosen.size(1);
  check_activation(logits, "logits", {n, -1});
  check_tensor(state.choices, "choices", at::kByte, {state.rounds() * n * static_cast<int64_t>(sizeof(TokenChoice))});
  check_tensor(state.round, "round", at::kInt, {n});
  check_tensor(state.runs, "runs", at::kInt, {n, kRunTableColumns});
  check_tensor(state.ids, "ids", at::kInt, {n});
  check_tensor(state.local_positions, "local_positions", at::kInt, {n});
  check_same_device(logits, {{"choices", &state.choices},
                             {"round", &state.round},
                             {"runs", &state.runs},
                             {"ids", &state.ids},
                             {"local_positions", &state.local_positions},
                             {"chosen", &state.chosen}});
  const profile::Scope scope("choice of tokens");
  ops->choose_tokens(logits, first_id, state);
}

}  // namespace gato::kernels
