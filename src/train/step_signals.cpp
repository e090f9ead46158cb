#include "step_signals.h"

#include <ATen/ATen.h>

#include <cstring>

namespace gato::train {

StepSignals agree(Communicator& communicator, const StepSignals& own) {
  constexpr int64_t kNumbers = sizeof(StepSignals) / sizeof(int64_t);
  static_assert(sizeof(StepSignals) == kNumbers * sizeof(int64_t), "StepSignals holds int64 alone");
  if (communicator.alone()) return own;
  const at::Tensor numbers = at::empty({kNumbers}, at::kLong);
  std::memcpy(numbers.mutable_data_ptr<int64_t>(), &own, sizeof(own));
  communicator.all_reduce(numbers, "agreement before a step").wait();
  StepSignals sums;
  std::memcpy(static_cast<void*>(&sums), numbers.const_data_ptr<int64_t>(), sizeof(sums));
  return sums;
}

}  // namespace gato::train
