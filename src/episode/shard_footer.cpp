#include "episode/shard_footer.h"

#include <algorithm>
#include <limits>
#include <set>

#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::episode {
namespace {

constexpr size_t kMaxDatasetNameBytes = 200;
constexpr int kMaxFields = 256;  // As check_task_spec; asked before memory is taken.

/// `value` as an int64_t; numbers that do not fit become the largest, which every check refuses.
int64_t to_signed(uint64_t value) {
  return value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) ? std::numeric_limits<int64_t>::max()
                                                                            : static_cast<int64_t>(value);
}

/// An enumerator from a number that nobody vouches for: numbers that do not fit become 255, which every check refuses.
template <class Enum>
Enum to_enum(uint32_t value) {
  return static_cast<Enum>(value > 255 ? 255 : value);
}

void store_field(const FieldSpec& from, format::Field& to) {
  to.set_name(from.name);
  to.set_modality(static_cast<uint32_t>(from.modality));
  for (const int64_t dimension : from.shape) to.add_shape(static_cast<uint64_t>(dimension));
  to.set_num_values(static_cast<uint32_t>(from.num_values));
  to.mutable_low()->Assign(from.low.begin(), from.low.end());
  to.mutable_high()->Assign(from.high.begin(), from.high.end());
  to.set_codec(static_cast<uint32_t>(from.codec));
  to.set_unit(from.unit);
}

FieldSpec load_field(const format::Field& from) {
  FieldSpec to;
  to.name = from.name();
  to.modality = to_enum<Modality>(from.modality());
  for (const uint64_t dimension : from.shape()) to.shape.push_back(to_signed(dimension));
  to.num_values = from.num_values();
  to.low.assign(from.low().begin(), from.low().end());
  to.high.assign(from.high().begin(), from.high().end());
  to.codec = to_enum<ImageCodec>(from.codec());
  to.unit = from.unit();
  return to;
}

void store_returns(const ReturnRecord& from, format::Returns& to) {
  to.set_mean(from.mean);
  to.set_standard_error(from.standard_error);
  to.set_episodes(static_cast<uint64_t>(from.episodes));
}

ReturnRecord load_returns(const format::Returns& from) {
  return {from.mean(), from.standard_error(), to_signed(from.episodes())};
}

void store_task(const TaskSpec& from, format::Task& to) {
  to.set_id(from.id);
  to.set_description(from.description);
  for (const FieldSpec& field : from.observation) store_field(field, *to.add_observation());
  for (const FieldSpec& field : from.action) store_field(field, *to.add_action());
  to.set_scoring(static_cast<uint32_t>(from.scoring));
  to.set_partial_view(from.partial_view);
  to.set_max_steps(static_cast<uint64_t>(from.max_steps));
  store_returns(from.expert, *to.mutable_expert());
  store_returns(from.random, *to.mutable_random());
  to.set_licence(from.licence);
}

TaskSpec load_task(const format::Task& from) {
  TaskSpec to;
  to.id = from.id();
  to.description = from.description();
  for (const format::Field& field : from.observation()) to.observation.push_back(load_field(field));
  for (const format::Field& field : from.action()) to.action.push_back(load_field(field));
  to.scoring = to_enum<Scoring>(from.scoring());
  to.partial_view = from.partial_view();
  to.max_steps = to_signed(from.max_steps());
  to.expert = load_returns(from.expert());
  to.random = load_returns(from.random());
  to.licence = from.licence();
  return to;
}

}  // namespace

void check_dataset_info(const DatasetInfo& info) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.+:/";
  const bool good_name = !info.name.empty() && info.name.size() <= kMaxDatasetNameBytes &&
                         info.name.find_first_not_of(kAllowed) == std::string::npos && info.name.front() != '.';
  if (!good_name) {
    throw ConfigError(cat("data set name '", info.name, "': a name is made of letters, digits and _ - . + : / in 1 to ",
                          kMaxDatasetNameBytes, " bytes and does not begin with a point"));
  }
  for (const std::string* text : {&info.description, &info.licence, &info.created_by}) {
    if (!is_valid_utf8(*text)) {
      throw ConfigError(cat("data set '", info.name, "': description, licence or origin is not valid UTF-8"));
    }
  }
}

void check_tasks(const std::vector<TaskSpec>& tasks) {
  if (tasks.empty() || tasks.size() > kMaxTasks) {
    throw ConfigError(cat("a shard of ", tasks.size(), " tasks: must be 1 to ", kMaxTasks));
  }
  std::set<std::string_view> ids;
  for (const TaskSpec& task : tasks) {
    check_task_spec(task);
    if (!ids.insert(task.id).second) throw ConfigError(cat("task '", task.id, "' occurs twice in one shard"));
  }
}

void store_shard(const DatasetInfo& info, const std::vector<TaskSpec>& tasks,
                 const std::vector<std::string>& source_agents, format::Shard& to) {
  to.set_name(info.name);
  to.set_description(info.description);
  to.set_licence(info.licence);
  to.set_created_by(info.created_by);
  for (const TaskSpec& task : tasks) store_task(task, *to.add_tasks());
  for (const std::string& agent : source_agents) to.add_source_agents(agent);
}

DatasetInfo load_dataset_info(const format::Shard& from) {
  DatasetInfo info{from.name(), from.description(), from.licence(), from.created_by()};
  check_dataset_info(info);
  return info;
}

std::vector<TaskSpec> load_tasks(const format::Shard& from) {
  if (static_cast<size_t>(from.tasks_size()) > kMaxTasks) {
    throw ConfigError(cat("a shard of ", from.tasks_size(), " tasks: must be 1 to ", kMaxTasks));
  }
  std::vector<TaskSpec> tasks;
  for (const format::Task& task : from.tasks()) {
    if (std::max(task.observation_size(), task.action_size()) > kMaxFields) {
      throw ConfigError(cat("task '", task.id(), "' has more than ", kMaxFields, " fields in one group"));
    }
    tasks.push_back(load_task(task));
  }
  check_tasks(tasks);
  return tasks;
}

}  // namespace gato::episode
