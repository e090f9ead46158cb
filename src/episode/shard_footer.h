#pragma once
#include <string>
#include <vector>

#include "episode/format.pb.h"
#include "gato/episode/shard.h"

/// What a shard's footer says about its data set, to and from the structures of the public headers.
namespace gato::episode {

/// Most tasks, and most source agents, of one shard.
constexpr size_t kMaxTasks = 65536;

/// Throws ConfigError for an empty or malformed name and texts that are not UTF-8.
void check_dataset_info(const DatasetInfo& info);

/// Checks every task (check_task_spec) and that there is at least one, and no id twice. Throws ConfigError.
void check_tasks(const std::vector<TaskSpec>& tasks);

void store_shard(const DatasetInfo& info, const std::vector<TaskSpec>& tasks,
                 const std::vector<std::string>& source_agents, format::Shard& to);

[[nodiscard]] DatasetInfo load_dataset_info(const format::Shard& from);  ///< Throws ConfigError as check_dataset_info.
[[nodiscard]] std::vector<TaskSpec> load_tasks(const format::Shard& from);  ///< Throws ConfigError as check_tasks.

}  // namespace gato::episode
