#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gato/env/rollout.h"

namespace gato::eval {

/// One task of several that are played together.
struct JoinedTask {
  std::unique_ptr<env::EnvironmentBatch> batch;
  env::RolloutOptions options;
};

/// Plays several tasks at once, each in a thread of its own, with one policy that acts for all: its slots are those of
/// the first task's batch, then those of the second, and so on. It acts in the calling thread, once all tasks that
/// still have episodes wait for actions, so that which slots act together depends on nothing but the tasks. Returns the
/// results of each task in the order of its seeds. The first exception of a task ends the others and is rethrown.
[[nodiscard]] std::vector<std::vector<env::RolloutResult>> play_joined(std::vector<JoinedTask>& tasks,
                                                                       env::Policy& policy);

}  // namespace gato::eval
