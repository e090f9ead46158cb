#pragma once
#include <cstdint>

#include "gato/train/communicator.h"

namespace gato::train {

/// What the processes of a run agree on before every step: each says what it wants or has, all get the sums. So every
/// process stops, saves and goes on at the same step.
struct StepSignals {
  int64_t stop = 0;             ///< Processes that a signal asked to stop.
  int64_t out_of_time = 0;      ///< Processes for which train.max_minutes are over.
  int64_t save = 0;             ///< Processes that a signal asked to save.
  int64_t damage = 0;           ///< Episodes found damaged of which the others do not know yet.
  int64_t part_unfinished = 0;  ///< Processes that still write their part of a checkpoint.
  int64_t tokens = 0;           ///< Of the rows of the next step.
};

/// The sums over all processes.
[[nodiscard]] StepSignals agree(Communicator& communicator, const StepSignals& own);

}  // namespace gato::train
