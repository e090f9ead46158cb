#include <algorithm>
#include <limits>
#include <unordered_map>

#include "episode/column_file.h"
#include "episode/shard_footer.h"
#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/episode/shard.h"

namespace gato::episode {
namespace {

/// Rows of variable length, as the file holds them.
struct Blobs {
  std::string bytes;
  std::vector<uint64_t> table = {0};

  void add(std::string_view row) {
    bytes += row;
    table.push_back(bytes.size());
  }
  format::Column& store(ColumnFileWriter& file) const {
    return file.add_variable<std::byte>(format::BYTE, table, std::as_bytes(std::span<const char>(bytes)));
  }
};

/// The column of one field as the file will hold it.
struct FieldBuffer {
  std::vector<float> continuous;
  std::vector<uint16_t> discrete;
  Blobs blobs;

  /// Appends `steps` rows; returns the bytes that they take in the file.
  uint64_t add(const FieldSpec& spec, const Column& column);
  format::Column& store(ColumnFileWriter& file, const FieldSpec& spec) const;
};

uint64_t FieldBuffer::add(const FieldSpec& spec, const Column& column) {
  switch (spec.modality) {
    case Modality::kContinuous:
      continuous.insert(continuous.end(), column.continuous.begin(), column.continuous.end());
      return column.continuous.size() * sizeof(float);
    case Modality::kDiscrete:
      for (const int32_t value : column.discrete) discrete.push_back(static_cast<uint16_t>(value));
      return column.discrete.size() * sizeof(uint16_t);
    case Modality::kText:
    case Modality::kImage:
      break;
  }
  const size_t before = blobs.bytes.size();
  for (const std::string& text : column.text) blobs.add(text);
  for (const Image& image : column.images) blobs.add(encode_image(image, spec.codec));
  for (const std::string& encoded : column.encoded) blobs.add(encoded);
  return blobs.bytes.size() - before +
         (column.text.size() + column.images.size() + column.encoded.size()) * sizeof(uint64_t);
}

format::Column& FieldBuffer::store(ColumnFileWriter& file, const FieldSpec& spec) const {
  switch (spec.modality) {
    case Modality::kContinuous:
      return file.add_fixed<float>(format::FLOAT32, continuous, static_cast<uint64_t>(spec.num_elements()));
    case Modality::kDiscrete:
      return file.add_fixed<uint16_t>(format::UINT16, discrete, static_cast<uint64_t>(spec.num_elements()));
    case Modality::kText:
    case Modality::kImage:
      break;
  }
  return blobs.store(file);
}

/// The columns of one task. Labels and rewards take room only once an episode has them.
struct TaskBuffer {
  uint64_t num_steps = 0;
  std::vector<FieldBuffer> observation, action, label;
  std::vector<float> reward;
  bool has_label = false, has_reward = false;
};

uint32_t flags_of(const Episode& episode) {
  uint32_t flags = 0;
  if (episode.terminated) flags |= kEpisodeTerminated;
  if (episode.truncated) flags |= kEpisodeTruncated;
  if (episode.success) flags |= kEpisodeHasSuccess;
  if (episode.success.value_or(false)) flags |= kEpisodeSuccess;
  if (!episode.reward.empty()) flags |= kEpisodeHasReward;
  if (!episode.label.empty()) flags |= kEpisodeHasLabel;
  return flags;
}

float clamp_to_float(double value) {
  constexpr double kLargest = std::numeric_limits<float>::max();
  return static_cast<float>(std::clamp(value, -kLargest, kLargest));
}

}  // namespace

struct ShardWriter::State {
  State(const Path& path, DatasetInfo dataset, std::vector<TaskSpec> task_specs)
      : info(std::move(dataset)), tasks(std::move(task_specs)), file(path, FileKind::kShard), buffers(tasks.size()) {
    for (size_t i = 0; i < tasks.size(); ++i) {
      buffers[i].observation.resize(tasks[i].observation.size());
      buffers[i].action.resize(tasks[i].action.size());
    }
  }

  void check_new_id(const TaskSpec& task, const Episode& episode, uint64_t hash) const;
  uint32_t agent_index(const std::string& name);
  void add_labels(const TaskSpec& task, TaskBuffer& buffer, const Episode& episode);
  void add_rewards(TaskBuffer& buffer, const Episode& episode);
  void store_fields(format::Role role, size_t task, const std::vector<FieldSpec>& specs,
                    const std::vector<FieldBuffer>& fields);
  void store_task(size_t task);

  DatasetInfo info;
  std::vector<TaskSpec> tasks;
  ColumnFileWriter file;
  std::vector<TaskBuffer> buffers;
  std::vector<EpisodeIndexEntry> index;
  Blobs ids;
  std::unordered_map<uint64_t, size_t> episode_of_hash;
  std::vector<std::string> agents;
  uint64_t bytes = 0;
  bool finished = false;
};

void ShardWriter::State::check_new_id(const TaskSpec& task, const Episode& episode, uint64_t hash) const {
  const auto known = episode_of_hash.find(hash);
  if (known == episode_of_hash.end()) return;
  const uint64_t begin = ids.table[known->second], end = ids.table[known->second + 1];
  if (std::string_view(ids.bytes).substr(begin, end - begin) != episode.id) return;  // Two ids, one hash.
  throw DataError(
      cat("task '", task.id, "', episode '", episode.id, "': this id is in the shard already, and ids are unique"));
}

uint32_t ShardWriter::State::agent_index(const std::string& name) {
  const auto known = std::find(agents.begin(), agents.end(), name);
  if (known == agents.end()) {
    if (agents.size() == kMaxTasks) throw DataError(cat("more than ", kMaxTasks, " source agents in one shard"));
    agents.push_back(name);
    return static_cast<uint32_t>(agents.size() - 1);
  }
  return static_cast<uint32_t>(known - agents.begin());
}

/// Called after the episode's actions were added: episodes without labels repeat them.
void ShardWriter::State::add_labels(const TaskSpec& task, TaskBuffer& buffer, const Episode& episode) {
  if (!buffer.has_label) {
    if (episode.label.empty()) return;
    buffer.label = buffer.action;
    buffer.has_label = true;
    // The copies end with this episode's actions: take them out again, its labels come instead.
    for (size_t i = 0; i < task.action.size(); ++i) {
      FieldBuffer& field = buffer.label[i];
      field.continuous.resize(field.continuous.size() - episode.action[i].continuous.size());
      field.discrete.resize(field.discrete.size() - episode.action[i].discrete.size());
      const Column& added = episode.action[i];
      field.blobs.table.resize(field.blobs.table.size() - added.text.size() - added.images.size() -
                               added.encoded.size());
      field.blobs.bytes.resize(field.blobs.table.back());
    }
  }
  for (size_t i = 0; i < task.action.size(); ++i) {
    bytes += buffer.label[i].add(task.action[i], episode.label.empty() ? episode.action[i] : episode.label[i]);
  }
}

/// Called before the episode's steps are counted: episodes without rewards get zeros.
void ShardWriter::State::add_rewards(TaskBuffer& buffer, const Episode& episode) {
  if (!buffer.has_reward) {
    if (episode.reward.empty()) return;
    buffer.reward.assign(buffer.num_steps, 0.0f);
    buffer.has_reward = true;
  }
  buffer.reward.insert(buffer.reward.end(), episode.reward.begin(), episode.reward.end());
  buffer.reward.resize(buffer.num_steps + static_cast<uint64_t>(episode.num_steps), 0.0f);
  bytes += static_cast<uint64_t>(episode.num_steps) * sizeof(float);
}

void ShardWriter::State::store_fields(format::Role role, size_t task, const std::vector<FieldSpec>& specs,
                                      const std::vector<FieldBuffer>& fields) {
  for (size_t i = 0; i < specs.size(); ++i) {
    format::Column& column = fields[i].store(file, specs[i]);
    column.set_role(role);
    column.set_task(static_cast<uint32_t>(task));
    column.set_field(static_cast<uint32_t>(i));
  }
}

void ShardWriter::State::store_task(size_t task) {
  const TaskBuffer& buffer = buffers[task];
  store_fields(format::OBSERVATION, task, tasks[task].observation, buffer.observation);
  store_fields(format::ACTION, task, tasks[task].action, buffer.action);
  if (buffer.has_label) store_fields(format::LABEL, task, tasks[task].action, buffer.label);
  if (buffer.has_reward) {
    format::Column& column = file.add_fixed<float>(format::FLOAT32, buffer.reward, 1);
    column.set_role(format::REWARD);
    column.set_task(static_cast<uint32_t>(task));
  }
}

ShardWriter::ShardWriter(const Path& path, DatasetInfo info, std::vector<TaskSpec> tasks) {
  check_dataset_info(info);
  check_tasks(tasks);
  state_ = std::make_unique<State>(path, std::move(info), std::move(tasks));
}

ShardWriter::~ShardWriter() = default;

void ShardWriter::add(int task, const Episode& episode) {
  State& state = *state_;
  GATO_CHECK(!state.finished, "add() after finish()");
  GATO_CHECK(task >= 0 && static_cast<size_t>(task) < state.tasks.size(), "task ", task, " of ", state.tasks.size());
  const TaskSpec& spec = state.tasks[static_cast<size_t>(task)];
  TaskBuffer& buffer = state.buffers[static_cast<size_t>(task)];
  check_episode(spec, episode);
  const uint64_t hash = split_hash(episode.id);
  state.check_new_id(spec, episode, hash);

  state.index.push_back({.split_hash = hash,
                         .first_step = buffer.num_steps,
                         .seed = episode.seed,
                         .num_steps = static_cast<uint32_t>(episode.num_steps),
                         .task = static_cast<uint32_t>(task),
                         .total_return = clamp_to_float(episode.total_return()),
                         .source_agent = state.agent_index(episode.source_agent),
                         .flags = flags_of(episode),
                         .reserved = 0});
  state.ids.add(episode.id);
  state.episode_of_hash.emplace(hash, state.index.size() - 1);
  state.bytes += sizeof(EpisodeIndexEntry) + sizeof(uint64_t) + episode.id.size();
  for (size_t i = 0; i < spec.observation.size(); ++i) {
    state.bytes += buffer.observation[i].add(spec.observation[i], episode.observation[i]);
  }
  for (size_t i = 0; i < spec.action.size(); ++i) {
    state.bytes += buffer.action[i].add(spec.action[i], episode.action[i]);
  }
  state.add_labels(spec, buffer, episode);
  state.add_rewards(buffer, episode);
  buffer.num_steps += static_cast<uint64_t>(episode.num_steps);
}

int64_t ShardWriter::num_episodes() const { return static_cast<int64_t>(state_->index.size()); }

uint64_t ShardWriter::bytes() const { return state_->bytes; }

void ShardWriter::finish() {
  State& state = *state_;
  GATO_CHECK(!state.finished, "finish() called twice");
  state.finished = true;
  // The index first: it is what every reader touches.
  format::Column& index = state.file.add_fixed<EpisodeIndexEntry>(format::INDEX_ENTRY, state.index, 1);
  index.set_role(format::EPISODE_INDEX);
  state.ids.store(state.file).set_role(format::EPISODE_ID);
  for (size_t task = 0; task < state.tasks.size(); ++task) state.store_task(task);
  store_shard(state.info, state.tasks, state.agents, *state.file.footer().mutable_shard());
  state.file.finish();
}

}  // namespace gato::episode
