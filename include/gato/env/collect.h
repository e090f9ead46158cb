#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gato/core/file.h"
#include "gato/env/environment.h"
#include "gato/env/suite.h"

namespace gato::env {

struct CollectOptions {
  Path out;  ///< Folder; each task's data set goes to OUT/<id with / as ->.
  uint64_t seed = 0;
  /// Episodes that measure expert and random returns (seeds never used for data). Without a number: what was measured
  /// before (TaskEntry::known), else 100.
  std::optional<int64_t> reference_episodes;
  int threads = 0;            ///< 0: the thread budget. Results do not depend on it.
  double episodes_scale = 1;  ///< Multiplies every task's number of episodes; for quick tries.
};

/// What was recorded of one task.
struct CollectSummary {
  std::string task;
  int64_t episodes = 0, steps = 0;
  int64_t failed = 0;  ///< Episodes that the environment itself broke off; they are not in the data.
  double mean_return = 0;
  episode::ReturnRecord expert, random;
  bool reused = false;  ///< The data set was already there, complete and made with the same settings.
};

/// Records demonstrations of every task of `suite` that has episodes, and its texts, as data sets. Deterministic in
/// (suite, seed). Finished data sets with the same settings are kept, so an interrupted collection goes on where it
/// was. Where the workers of a task keep failing the other tasks are still recorded, then EnvironmentError names it.
/// Shows progress; polls stop_requested().
std::vector<CollectSummary> collect(const Suite& suite, const CollectOptions& options);

/// One demonstration: `seed` keys the environment, the noise level and the noise. Where the environment itself fails
/// (StepResult::failure), nothing, and `failure` says why.
[[nodiscard]] std::optional<episode::Episode> record_episode(Environment& environment, Expert& expert,
                                                             const ActionNoise& noise, uint64_t seed,
                                                             const std::string& id, std::string& failure);

}  // namespace gato::env
