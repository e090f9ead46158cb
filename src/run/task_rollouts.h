#pragma once
#include <map>
#include <set>
#include <string>
#include <vector>

#include "gato/run/results.h"

/// The shards of tasks as one, and which tasks have a score: the same for tables and comparisons.
namespace gato::run {

/// All shards of one task as one result.
struct TaskRollouts {
  TaskResult joined;  ///< Rollouts by rising seed.
  std::set<int64_t> shards;
  std::string problem;  ///< Why the shards do not belong together; "" when they do.
  /// `joined` without the rollouts that the environment broke off.
  [[nodiscard]] TaskResult played() const;
};

/// By task; does not depend on the order of `results`.
[[nodiscard]] std::map<std::string, TaskRollouts> join_shards(const std::vector<TaskResult>& results);

/// Why a task judged by its return has no score: "the expert was not measured"; "" when it has one. `played` as
/// TaskRollouts::played() gives it.
[[nodiscard]] std::string obstacle_to_score(const TaskResult& played);

/// The part of a task's name before '/'.
[[nodiscard]] std::string domain_of(const std::string& task);

}  // namespace gato::run
