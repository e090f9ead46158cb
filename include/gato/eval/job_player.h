#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gato/core/file.h"
#include "gato/eval/agent.h"
#include "gato/run/evaluation_queue.h"
#include "gato/run/results.h"

namespace gato::eval {

struct JobPlayerOptions {
  std::string device = "auto";  ///< As kernels::open_device takes it.
  bool cuda_graph = false;      ///< On a GPU only.
};

/// Plays jobs of a run's evaluation queue with the checkpoints they name; a run::JobRunner. The model stays loaded
/// between jobs of one checkpoint. One thread.
class JobPlayer {
 public:
  /// Throws ConfigError for a device that is not there.
  JobPlayer(Path run, const JobPlayerOptions& options);

  /// Keeps frames for the report beside the results. Throws CheckpointError, ConfigError, Interrupted.
  std::vector<run::TaskResult> operator()(const run::JobBatch& batch, const run::Job& job,
                                          const std::function<bool()>& is_wanted);

  [[nodiscard]] int64_t models_loaded() const { return models_loaded_; }

 private:
  const Agent& agent(const run::JobBatch& batch);

  Path run_;
  at::Device device_;
  bool cuda_graph_;
  std::string loaded_;  // checkpoint and weights
  std::unique_ptr<Agent> agent_;
  int64_t models_loaded_ = 0;
};

/// What came of playing a recorded result again.
struct ReplayOutcome {
  run::TaskResult recorded, again;
  std::vector<std::string> differences;  ///< One line per rollout or circumstance that differs; empty: the same.
  Path animation;                        ///< GIF of one rollout; empty where the environment has no pictures.
};

struct ReplayOptions {
  Path result;          ///< A result's file in a run folder.
  Path checkpoint;      ///< "": checkpoints/NAME of that run folder.
  Path out;             ///< Folder of the animation; "": the working folder.
  int64_t rollout = 0;  ///< Which one is animated.
  std::string device = "auto";
};

/// Plays the rollouts of a result again as it was played: with the same tasks beside it, seeds, settings, slots and
/// weights. Throws ConfigError for results that do not record these, and for another model than the one that played.
[[nodiscard]] ReplayOutcome replay_result(const ReplayOptions& options);

}  // namespace gato::eval
