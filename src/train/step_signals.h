#pragma once
#include <cstdint>

#include "gato/train/communicator.h"

namespace gato::train {

/// What the processes of a run agree on at every step: each says what it wants or has, all get the sums, which travel
/// with those of the step's losses (Stepper). So every process stops, saves and goes on at the same step.
struct StepSignals {
  int64_t stop = 0;           ///< Processes that a signal asked to stop.
  int64_t out_of_time = 0;    ///< Processes for which train.max_minutes are over.
  int64_t save = 0;           ///< Processes that a signal asked to save.
  int64_t damage = 0;         ///< Episodes found damaged of which the others do not know yet.
  int64_t parts_written = 0;  ///< Processes that are done with their part of the checkpoint under way.
  int64_t save_ended = 0;     ///< 1 when rank 0 knows how that checkpoint ended, which the others do not yet.
  int64_t tokens = 0;         ///< Of the step's rows.
  bool operator==(const StepSignals&) const = default;
};
constexpr int64_t kNumSignals = sizeof(StepSignals) / sizeof(int64_t);

/// The sums over all processes, by an exchange of its own.
[[nodiscard]] StepSignals agree(Communicator& communicator, const StepSignals& own);

/// The signals as double [kNumSignals] on the CPU, which holds such counts exactly, and back.
[[nodiscard]] at::Tensor to_numbers(const StepSignals& signals);
[[nodiscard]] StepSignals from_numbers(const at::Tensor& numbers);

}  // namespace gato::train
