#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "gato/env/environment.h"

namespace gato::env {

struct ConformanceOptions {
  int episodes = 4;          ///< Played at random in the checks of values and replay.
  int expert_episodes = 20;  ///< Compare the expert with random play.
  int64_t max_steps = 1000;  ///< Where the specification states no limit, episodes are left after as many steps.
  uint64_t seed = 0;
};

/// Plays `entry` and lists every way in which it breaks the contract of Environment and Expert (empty: none): the
/// specification, values outside it, replay with the same seed (same object, new object, other thread), terminated and
/// truncated, success, actions outside their bounds, snapshot and restore, frames, reference answers, and an expert
/// whose actions are invalid, irreproducible or no better than random ones. For one's own environments too. Throws
/// nothing that the environment throws: that is a violation.
[[nodiscard]] std::vector<std::string> check_environment(const TaskEntry& entry,
                                                         const ConformanceOptions& options = {});

}  // namespace gato::env
