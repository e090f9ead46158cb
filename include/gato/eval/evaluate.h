#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gato/core/file.h"
#include "gato/env/suite.h"
#include "gato/kernels/packed_linear.h"
#include "gato/run/results.h"

namespace gato::eval {

struct EvaluateOptions {
  Path checkpoint;  ///< A checkpoint folder, or a run folder (its newest valid checkpoint is taken).
  env::Suite suite;
  Path out;              ///< Folder of the results; empty: eval/results/step-N@SUITE of the checkpoint's run folder.
  uint64_t seed = 0;     ///< Of the rollouts.
  int64_t rollouts = 0;  ///< Overrides the suite's numbers when > 0.
  int slots = 64;        ///< Environments that share a forward pass.
  /// Type of the weights that act. Other weights than those of training are another evaluation, whose suite is named
  /// SUITE-TYPE.
  std::optional<kernels::WeightType> weights;
  std::string device = "auto";  ///< As kernels::open_device takes it: auto (a GPU where there is one), cpu, cuda:N.
  bool cuda_graph = false;      ///< Whether tokens are computed in CUDA graphs; on a GPU only.
  /// Whether a demonstration from the checkpoint stands in front of every context: an evaluation of its own, whose
  /// suite is named SUITE-prompted.
  bool demonstration = false;
  std::vector<std::string> tasks;  ///< Patterns that narrow the suite; empty: all of it.
  int record_episodes = 1;  ///< Episodes per task whose frames are kept for the report (pictures: 8 times as many).
  bool again = false;       ///< Whether tasks that already have a result are played again.
};

/// The checkpoint folder that `path` means: itself, or the newest valid one of a run folder. CheckpointError or
/// ConfigError when there is none.
[[nodiscard]] Path resolve_checkpoint(const Path& path);

struct EvaluateOutcome {
  Path out;
  run::Summary summary;
};

/// Plays every task of the suite with the checkpoint's agent, and writes one result per task, media for the report and
/// summary.json. Finished tasks are kept, so the same call goes on after an interruption. Shows progress; polls
/// stop_requested().
EvaluateOutcome evaluate(const EvaluateOptions& options);

/// The summary as a table for a terminal.
[[nodiscard]] std::string summary_table(const run::Summary& summary);

}  // namespace gato::eval
