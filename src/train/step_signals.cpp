#include "step_signals.h"

#include <ATen/ATen.h>

#include <cstring>

#include "gato/core/error.h"

namespace gato::train {

static_assert(sizeof(StepSignals) == kNumSignals * sizeof(int64_t), "StepSignals holds int64 alone");

at::Tensor to_numbers(const StepSignals& signals) {
  const at::Tensor whole = at::empty({kNumSignals}, at::kLong);
  std::memcpy(whole.mutable_data_ptr<int64_t>(), &signals, sizeof(signals));
  return whole.to(at::kDouble);
}

StepSignals from_numbers(const at::Tensor& numbers) {
  GATO_CHECK(numbers.numel() == kNumSignals, numbers.numel(), " numbers are no signals");
  const at::Tensor whole = numbers.cpu().to(at::kLong).contiguous();
  StepSignals signals;
  std::memcpy(static_cast<void*>(&signals), whole.const_data_ptr<int64_t>(), sizeof(signals));
  return signals;
}

StepSignals agree(Communicator& communicator, const StepSignals& own) {
  if (communicator.alone()) return own;
  const at::Tensor numbers = to_numbers(own);
  communicator.all_reduce(numbers, "agreement before a step").wait();
  return from_numbers(numbers);
}

}  // namespace gato::train
