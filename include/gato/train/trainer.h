#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gato/train/config.h"

namespace gato::train {

/// How a call of train() ended.
struct TrainingOutcome {
  int64_t step = 0;                               ///< Updates done in the whole run.
  bool finished = false;                          ///< All steps are done; false after `max_minutes`.
  double seconds = 0;                             ///< Wall time of this call's loop.
  double tokens_per_second = 0;                   ///< Of this call's loop, padding not counted.
  std::map<std::string, double> validation_loss;  ///< Last one, nats per label by domain.
};

/// Too many refused steps: losses or gradients were not finite. Programs exit with 77.
class DivergedError : public Error {
  using Error::Error;
};

/// Trains in the run folder config.run.dir, or goes on from its newest valid checkpoint. On CPU the same configuration
/// gives the same bits with or without interruptions. `command` is recorded. Throws ConfigError (before anything is
/// written) for settings that do not fit together or do not fit the run that is there, Interrupted after a stop signal
/// once a checkpoint is saved, DivergedError, DataError, CheckpointError, IoError.
TrainingOutcome train(const TrainingConfig& config, const std::vector<std::string>& command);

/// What `gato-train --check` prints: parameters and bytes by part, tokens and sources with their shares. Opens the data
/// unless it is missing, which is then said.
[[nodiscard]] std::string check_report(const TrainingConfig& config);

}  // namespace gato::train
