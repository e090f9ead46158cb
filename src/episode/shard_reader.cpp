#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "episode/column_file.h"
#include "episode/group.h"
#include "episode/shard_footer.h"
#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/episode/shard.h"

namespace gato::episode {
namespace {

constexpr uint32_t kKnownFlags = kEpisodeTerminated | kEpisodeTruncated | kEpisodeHasSuccess | kEpisodeSuccess |
                                 kEpisodeHasReward | kEpisodeHasLabel;

/// One field's column: only the member of its modality is bound.
struct FieldColumn {
  FixedColumn<float> continuous;
  FixedColumn<uint16_t> discrete;
  VariableColumn<std::byte> blobs;
  bool bound = false;

  /// Unbound members have no rows.
  [[nodiscard]] uint64_t num_rows() const { return continuous.num_rows() + discrete.num_rows() + blobs.num_rows(); }
};

/// The columns of one task.
struct TaskColumns {
  std::array<std::vector<FieldColumn>, kGroups.size()> groups;
  FixedColumn<float> reward;
  bool has_reward = false, has_label = false;
  uint64_t num_steps = 0;
};

}  // namespace

struct ShardReader::State {
  explicit State(const Path& path) : file(path, FileKind::kShard) {}

  void open();
  void bind(const format::Column& column);
  void note(const std::string& name, const format::Column& column, bool& bound);
  void bind_field(const format::Column& column, Group group);
  void check_all_bound();
  void check_index();
  void check_entry(const EpisodeIndexEntry& entry, uint64_t position, std::vector<uint64_t>& steps_so_far) const;

  [[nodiscard]] const FieldColumn& column(int task, Group group, int field, Modality modality) const;
  [[nodiscard]] Column read_column(int task, Group group, int field, uint64_t first, uint64_t count) const;
  [[nodiscard]] Image image(int task, Group group, int field, uint64_t step) const;
  [[nodiscard]] std::vector<Column> read_group(int task, Group group, uint64_t first, uint64_t count) const;
  [[nodiscard]] std::span<const uint16_t> discrete_rows(int task, Group group, int field, uint64_t first,
                                                        uint64_t count) const;
  void verify_tables(std::vector<ShardDamage>& damages) const;
  void verify_split_hashes(std::vector<ShardDamage>& damages) const;

  /// Calls visitor(column, name) for every field of the task, labels included where there are any.
  template <class Visitor>
  void for_each_field(size_t task, const Visitor& visitor) const {
    for (const Group group : kGroups) {
      if (group == Group::kLabel && !columns[task].has_label) continue;
      const std::vector<FieldSpec>& fields = fields_of(tasks[task], group);
      for (size_t i = 0; i < fields.size(); ++i) {
        visitor(columns[task].groups[static_cast<size_t>(group)][i], column_name(tasks[task], group, fields[i]));
      }
    }
  }

  /// A DataError about what the footer says.
  template <class... Args>
  [[noreturn]] void fail_footer(const Args&... problem) const {
    file.fail(file.payload_bytes(), problem...);
  }

  ColumnFile file;
  DatasetInfo info;
  std::vector<TaskSpec> tasks;
  std::vector<std::string> agents;
  std::vector<TaskColumns> columns;
  FixedColumn<EpisodeIndexEntry> index_column;
  VariableColumn<std::byte> ids;
  bool index_bound = false, ids_bound = false;
  std::span<const EpisodeIndexEntry> index;  // Verified and checked.
  std::vector<ColumnSize> sizes;
};

// ---- Opening -------------------------------------------------------------------------------------------------------

void ShardReader::State::open() {
  if (!file.footer().has_shard()) fail_footer("the footer does not describe a shard");
  const format::Shard& shard = file.footer().shard();
  try {
    info = load_dataset_info(shard);
    tasks = load_tasks(shard);
  } catch (const ConfigError& error) {
    fail_footer("the footer is not valid: ", error.what());
  }
  if (static_cast<size_t>(shard.source_agents_size()) > kMaxTasks) {
    fail_footer("more than ", kMaxTasks, " source agents");
  }
  agents.assign(shard.source_agents().begin(), shard.source_agents().end());
  columns.resize(tasks.size());
  for (size_t i = 0; i < tasks.size(); ++i) {
    for (const Group group : kGroups) {
      columns[i].groups[static_cast<size_t>(group)].resize(fields_of(tasks[i], group).size());
    }
  }
  for (const format::Column& column : file.footer().columns()) bind(column);
  check_all_bound();
  check_disjoint(file);
  check_index();
}

void ShardReader::State::bind(const format::Column& column) {
  const bool of_task = column.role() >= format::OBSERVATION && column.role() <= format::REWARD;
  if (of_task && column.task() >= tasks.size()) {
    fail_footer("a column belongs to task ", column.task(), ", the shard has ", tasks.size());
  }
  switch (column.role()) {
    case format::EPISODE_INDEX:
      note("episode index", column, index_bound);
      index_column = FixedColumn<EpisodeIndexEntry>(file, column, format::INDEX_ENTRY, "the episode index");
      return;
    case format::EPISODE_ID:
      note("episode ids", column, ids_bound);
      ids = VariableColumn<std::byte>(file, column, format::BYTE, "the column of episode ids");
      return;
    case format::OBSERVATION:
      return bind_field(column, Group::kObservation);
    case format::ACTION:
      return bind_field(column, Group::kAction);
    case format::LABEL:
      return bind_field(column, Group::kLabel);
    case format::REWARD: {
      TaskColumns& task = columns[column.task()];
      const std::string name = cat(tasks[column.task()].id, " reward");
      note(name, column, task.has_reward);
      task.reward = FixedColumn<float>(file, column, format::FLOAT32, name);
      return;
    }
    case format::ROLE_UNKNOWN:
      fail_footer("a column has no role");
    default:
      return;  // A later version's addition.
  }
}

void ShardReader::State::note(const std::string& name, const format::Column& column, bool& bound) {
  if (std::exchange(bound, true)) fail_footer("the column '", name, "' is there twice");
  // Whether rows is plausible is checked when the column is bound; until then the product may wrap.
  const uint64_t table_bytes = column.table_offset() == 0 ? 0 : (column.rows() + 1) * sizeof(uint64_t);
  sizes.push_back({name, column.rows(), column.data_bytes() + table_bytes, column.data_offset()});
}

void ShardReader::State::bind_field(const format::Column& column, Group group) {
  const TaskSpec& task = tasks[column.task()];
  const std::vector<FieldSpec>& fields = fields_of(task, group);
  if (column.field() >= fields.size()) {
    fail_footer("a column belongs to ", group_name(group), " field ", column.field(), " of task '", task.id,
                "', which has ", fields.size());
  }
  const FieldSpec& spec = fields[column.field()];
  FieldColumn& to = columns[column.task()].groups[static_cast<size_t>(group)][column.field()];
  const std::string name = column_name(task, group, spec);
  note(name, column, to.bound);
  switch (spec.modality) {
    case Modality::kContinuous:
      to.continuous = FixedColumn<float>(file, column, format::FLOAT32, name);
      break;
    case Modality::kDiscrete:
      to.discrete = FixedColumn<uint16_t>(file, column, format::UINT16, name);
      break;
    case Modality::kText:
    case Modality::kImage:
      to.blobs = VariableColumn<std::byte>(file, column, format::BYTE, name);
      return;
  }
  if (column.row_elements() != static_cast<uint64_t>(spec.num_elements())) {
    fail_footer("the column '", name, "' has rows of ", column.row_elements(), " elements, the field has ",
                spec.num_elements());
  }
}

/// Every column that the tasks call for must be there; labels may be missing as a whole.
void ShardReader::State::check_all_bound() {
  if (!index_bound) fail_footer("the column 'episode index' is missing");
  if (!ids_bound) fail_footer("the column 'episode ids' is missing");
  for (size_t i = 0; i < tasks.size(); ++i) {
    const std::vector<FieldColumn>& labels = columns[i].groups[static_cast<size_t>(Group::kLabel)];
    columns[i].has_label =
        std::any_of(labels.begin(), labels.end(), [](const FieldColumn& label) { return label.bound; });
    for_each_field(i, [&](const FieldColumn& column, const std::string& name) {
      if (!column.bound) fail_footer("the column '", name, "' is missing");
    });
  }
}

void ShardReader::State::check_index() {
  if (index_column.row_elements() != 1) fail_footer("the rows of the episode index have several entries");
  if (ids.num_rows() != index_column.num_rows()) {
    fail_footer(ids.num_rows(), " episode ids for ", index_column.num_rows(), " episodes");
  }
  file.pin(index_column.offset_of(0), index_column.num_rows() * sizeof(EpisodeIndexEntry));
  index = index_column.rows(0, index_column.num_rows());
  std::vector<uint64_t> steps(tasks.size(), 0);
  for (size_t i = 0; i < index.size(); ++i) check_entry(index[i], i, steps);
  for (size_t i = 0; i < tasks.size(); ++i) {
    columns[i].num_steps = steps[i];
    if (columns[i].has_reward && columns[i].reward.num_rows() != steps[i]) {
      fail_footer("the column '", tasks[i].id, " reward' has ", columns[i].reward.num_rows(), " rows for ", steps[i],
                  " steps");
    }
    for_each_field(i, [&](const FieldColumn& column, const std::string& name) {
      if (column.num_rows() != steps[i]) {
        fail_footer("the column '", name, "' has ", column.num_rows(), " rows for ", steps[i], " steps");
      }
    });
  }
}

void ShardReader::State::check_entry(const EpisodeIndexEntry& entry, uint64_t position,
                                     std::vector<uint64_t>& steps) const {
  const auto fail = [&](const auto&... problem) {
    file.fail(index_column.offset_of(position), "entry ", position, " of the episode index ", cat(problem...));
  };
  if (entry.task >= tasks.size()) fail("has task ", entry.task, ", the shard has ", tasks.size());
  if (entry.source_agent >= agents.size())
    fail("has source agent ", entry.source_agent, ", the shard has ", agents.size());
  if (entry.num_steps < 1 || entry.num_steps > 0x7fffffffu) fail("has ", entry.num_steps, " steps");
  if (entry.first_step != steps[entry.task]) {
    fail("begins at step ", entry.first_step, " of its task's columns, expected ", steps[entry.task]);
  }
  if ((entry.flags & ~kKnownFlags) != 0 || entry.reserved != 0) fail("has unknown flags ", entry.flags);
  if (!std::isfinite(entry.total_return)) fail("has a return that is not finite");
  if ((entry.flags & kEpisodeHasReward) != 0 && !columns[entry.task].has_reward) fail("has rewards, its task has none");
  if ((entry.flags & kEpisodeHasLabel) != 0 && !columns[entry.task].has_label) fail("has labels, its task has none");
  steps[entry.task] += entry.num_steps;  // Cannot overflow: at most 2^31 per 48 bytes of file.
}

// ---- Reading -------------------------------------------------------------------------------------------------------

/// The column behind the accessors: checks what the caller asks for; labels of a task without labels are its actions.
const FieldColumn& ShardReader::State::column(int task, Group group, int field, Modality modality) const {
  GATO_CHECK(task >= 0 && static_cast<size_t>(task) < tasks.size(), "task ", task, " of ", tasks.size());
  const auto index_of_task = static_cast<size_t>(task);
  const std::vector<FieldSpec>& fields = fields_of(tasks[index_of_task], group);
  GATO_CHECK(field >= 0 && static_cast<size_t>(field) < fields.size(), "field ", field, " of ", fields.size());
  const auto index_of_field = static_cast<size_t>(field);
  GATO_CHECK(fields[index_of_field].modality == modality, "field '", fields[index_of_field].name, "' is ",
             modality_name(fields[index_of_field].modality), ", not ", modality_name(modality));
  const TaskColumns& columns_of_task = columns[index_of_task];
  if (group == Group::kLabel && !columns_of_task.has_label) group = Group::kAction;
  return columns_of_task.groups[static_cast<size_t>(group)][index_of_field];
}

/// The tokenizer makes ids of these values, so a value out of range is stopped here, whatever the checksums say.
std::span<const uint16_t> ShardReader::State::discrete_rows(int task, Group group, int field, uint64_t first,
                                                            uint64_t count) const {
  const FieldColumn& from = column(task, group, field, Modality::kDiscrete);
  const TaskSpec& spec = tasks[static_cast<size_t>(task)];
  const FieldSpec& field_spec = fields_of(spec, group)[static_cast<size_t>(field)];
  const auto rows = from.discrete.rows(first, count);
  uint16_t largest = 0;
  for (const uint16_t value : rows) largest = std::max(largest, value);
  if (largest >= field_spec.num_values) {
    file.fail(from.discrete.offset_of(first), "the column '", column_name(spec, group, field_spec), "' holds ", largest,
              " between rows ", first, " and ", first + count, ", its values are in [0, ", field_spec.num_values, ")");
  }
  return rows;
}

Column ShardReader::State::read_column(int task, Group group, int field, uint64_t first, uint64_t count) const {
  const TaskSpec& spec = tasks[static_cast<size_t>(task)];
  const FieldSpec& field_spec = fields_of(spec, group)[static_cast<size_t>(field)];
  const FieldColumn& from = column(task, group, field, field_spec.modality);
  const auto blob = [&](uint64_t step) {
    const auto bytes = from.blobs.row(step);
    return std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  Column to;
  switch (field_spec.modality) {
    case Modality::kContinuous: {
      const auto rows = from.continuous.rows(first, count);
      to.continuous.assign(rows.begin(), rows.end());
      break;
    }
    case Modality::kDiscrete: {
      const auto rows = discrete_rows(task, group, field, first, count);
      to.discrete.assign(rows.begin(), rows.end());
      break;
    }
    case Modality::kText:
      for (uint64_t i = 0; i < count; ++i) to.text.emplace_back(blob(first + i));
      break;
    case Modality::kImage:
      for (uint64_t i = 0; i < count; ++i) to.images.push_back(image(task, group, field, first + i));
      break;
  }
  return to;
}

Image ShardReader::State::image(int task, Group group, int field, uint64_t step) const {
  const auto bytes = column(task, group, field, Modality::kImage).blobs.row(step);
  try {
    return decode_image(bytes, "");
  } catch (const DataError& error) {
    const TaskSpec& spec = tasks[static_cast<size_t>(task)];
    const std::string name = column_name(spec, group, fields_of(spec, group)[static_cast<size_t>(field)]);
    file.fail(file.offset_of(bytes.data()), "column '", name, "', step ", step, error.what());
  }
}

std::vector<Column> ShardReader::State::read_group(int task, Group group, uint64_t first, uint64_t count) const {
  const size_t num_fields = fields_of(tasks[static_cast<size_t>(task)], group).size();
  std::vector<Column> result;
  result.reserve(num_fields);
  for (size_t i = 0; i < num_fields; ++i) result.push_back(read_column(task, group, static_cast<int>(i), first, count));
  return result;
}

ShardReader::ShardReader(const Path& path) : state_(std::make_unique<State>(path)) { state_->open(); }
ShardReader::~ShardReader() = default;
ShardReader::ShardReader(ShardReader&&) noexcept = default;
ShardReader& ShardReader::operator=(ShardReader&&) noexcept = default;

const Path& ShardReader::path() const { return state_->file.path(); }
const DatasetInfo& ShardReader::info() const { return state_->info; }
const std::vector<TaskSpec>& ShardReader::tasks() const { return state_->tasks; }
const std::vector<std::string>& ShardReader::source_agents() const { return state_->agents; }
std::span<const EpisodeIndexEntry> ShardReader::index() const { return state_->index; }
std::string ShardReader::fingerprint() const { return state_->file.fingerprint(); }
const std::vector<ColumnSize>& ShardReader::column_sizes() const { return state_->sizes; }
uint64_t ShardReader::file_bytes() const { return state_->file.file_bytes(); }

Episode ShardReader::read(int64_t episode, int64_t first_step, int64_t num_steps) const {
  const State& state = *state_;
  GATO_CHECK(episode >= 0 && static_cast<size_t>(episode) < state.index.size(), "episode ", episode, " of ",
             state.index.size());
  const EpisodeIndexEntry& entry = state.index[static_cast<size_t>(episode)];
  const int64_t total = entry.num_steps;
  if (num_steps < 0) num_steps = total - first_step;
  GATO_CHECK(first_step >= 0 && num_steps >= 0 && first_step <= total && num_steps <= total - first_step, "steps ",
             first_step, " + ", num_steps, " of an episode of ", total);
  const auto task = static_cast<int>(entry.task);
  const uint64_t first = entry.first_step + static_cast<uint64_t>(first_step);
  const auto count = static_cast<uint64_t>(num_steps);

  Episode result;
  result.id = episode_id(episode);
  result.source_agent = state.agents[entry.source_agent];
  result.seed = entry.seed;
  result.num_steps = num_steps;
  result.observation = state.read_group(task, Group::kObservation, first, count);
  result.action = state.read_group(task, Group::kAction, first, count);
  if ((entry.flags & kEpisodeHasLabel) != 0) result.label = state.read_group(task, Group::kLabel, first, count);
  if ((entry.flags & kEpisodeHasReward) != 0) {
    const auto reward = state.columns[entry.task].reward.rows(first, count);
    result.reward.assign(reward.begin(), reward.end());
  }
  result.terminated = (entry.flags & kEpisodeTerminated) != 0;
  result.truncated = (entry.flags & kEpisodeTruncated) != 0;
  if ((entry.flags & kEpisodeHasSuccess) != 0) result.success = (entry.flags & kEpisodeSuccess) != 0;
  return result;
}

std::string ShardReader::episode_id(int64_t episode) const {
  GATO_CHECK(episode >= 0 && static_cast<size_t>(episode) < state_->index.size(), "episode ", episode, " of ",
             state_->index.size());
  const auto bytes = state_->ids.row(static_cast<uint64_t>(episode));
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

std::span<const float> ShardReader::continuous(int task, Group group, int field, uint64_t first_step,
                                               uint64_t num_steps) const {
  return state_->column(task, group, field, Modality::kContinuous).continuous.rows(first_step, num_steps);
}

std::span<const uint16_t> ShardReader::discrete(int task, Group group, int field, uint64_t first_step,
                                                uint64_t num_steps) const {
  return state_->discrete_rows(task, group, field, first_step, num_steps);
}

std::string_view ShardReader::text(int task, Group group, int field, uint64_t step) const {
  const auto bytes = state_->column(task, group, field, Modality::kText).blobs.row(step);
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::span<const std::byte> ShardReader::encoded_image(int task, Group group, int field, uint64_t step) const {
  return state_->column(task, group, field, Modality::kImage).blobs.row(step);
}

Image ShardReader::image(int task, Group group, int field, uint64_t step) const {
  return state_->image(task, group, field, step);
}

bool ShardReader::has_labels(int task) const { return state_->columns.at(static_cast<size_t>(task)).has_label; }

uint64_t ShardReader::num_steps(int task) const { return state_->columns.at(static_cast<size_t>(task)).num_steps; }

// ---- Verifying -----------------------------------------------------------------------------------------------------

void ShardReader::State::verify_tables(std::vector<ShardDamage>& damages) const {
  const auto check = [&](const VariableColumn<std::byte>& column) {
    try {
      (void)column.table(0, column.num_rows());
    } catch (const DataError& error) {
      damages.push_back({column.table_offset(), error.what()});
    }
  };
  check(ids);
  for (size_t i = 0; i < tasks.size(); ++i) {
    for_each_field(i, [&](const FieldColumn& column, const std::string&) {
      if (column.blobs.num_rows() > 0) check(column.blobs);
    });
  }
}

void ShardReader::State::verify_split_hashes(std::vector<ShardDamage>& damages) const {
  for (size_t i = 0; i < index.size(); ++i) {
    const auto id = ids.row(i);
    if (split_hash(std::string(reinterpret_cast<const char*>(id.data()), id.size())) != index[i].split_hash) {
      const uint64_t offset = index_column.offset_of(i);
      damages.push_back({offset, cat(file.path().string(), ", offset ", offset, ": entry ", i,
                                     " of the episode index has another split hash than its episode's id")});
    }
  }
}

std::vector<ShardDamage> ShardReader::verify() const {
  std::vector<ShardDamage> damages;
  for (DamagedBlock& block : state_->file.damaged_blocks()) damages.push_back({block.offset, std::move(block.message)});
  if (damages.empty()) state_->verify_tables(damages);
  if (damages.empty()) state_->verify_split_hashes(damages);
  return damages;
}

}  // namespace gato::episode
