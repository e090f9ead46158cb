#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gato/train/config.h"
#include "gato/train/cost.h"

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
/// `profiled_steps` > 0: the time of that many steps by part is logged, and written as a Chrome trace `profile-N.json`
/// into the run folder. `on_begin` is called once in every process, after the run folder was locked and its settings
/// checked and stored, before the first step: what belongs to the run and may not be done for another one.
TrainingOutcome train(const TrainingConfig& config, const std::vector<std::string>& command, int64_t profiled_steps = 0,
                      const std::function<void()>& on_begin = nullptr);

/// One step that was run again.
struct Replay {
  int64_t from_step = 0;        ///< Of the checkpoint it started from; 0: from the initial parameters.
  bool same_numbers = true;     ///< Loss and gradient norm of every step run again are those in steps.csv, bit for bit.
  int64_t compared = 0;         ///< Steps that steps.csv had.
  bool same_parameters = true;  ///< Of the checkpoint at that step, bit for bit.
  bool compared_parameters = false;  ///< Whether there was such a checkpoint.
  std::string report;  ///< Loss by task, gradient norm by parameter, what is not finite, and the comparison.
};

/// Runs step `step` (from 1) of a run again, from its nearest checkpoint before, without changing anything in the run
/// folder. Throws ConfigError when the run has not come that far or its data changed.
[[nodiscard]] Replay replay(const std::string& run_dir, int64_t step);

/// What `gato-train --check` prints: parameters and bytes by part, tokens and sources with their shares, operations;
/// for a device in `cost` also what fits into it and what the run takes, with every assumption. Opens the data unless
/// it is missing, which is then said. Throws ConfigError for an unknown device.
[[nodiscard]] std::string check_report(const TrainingConfig& config, const RunCostOptions& cost = {});

}  // namespace gato::train
