#include <algorithm>
#include <array>

#include "episode/column_file.h"
#include "episode/group.h"
#include "episode/shard_footer.h"
#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/episode/shard.h"

namespace gato::episode {
namespace {

constexpr uint32_t kMaxFieldsOfGroup = 256;

format::Role role_of(Group group) { return group == Group::kObservation ? format::OBSERVATION : format::ACTION; }

void store_field(ColumnFileWriter& file, size_t task, const TokenColumns::Field& field) {
  GATO_CHECK(field.group != Group::kLabel, "labels have no token columns");
  GATO_CHECK(std::is_sorted(field.offsets.begin(), field.offsets.end()), "offsets of task ", task, ", field ",
             field.field, " are not rising");
  format::Column& column = file.add_variable<uint32_t>(format::UINT32, field.offsets, field.tokens);
  column.set_role(role_of(field.group));
  column.set_task(static_cast<uint32_t>(task));
  column.set_field(static_cast<uint32_t>(field.field));
}

}  // namespace

Path token_columns_path(const Path& shard) { return Path(shard.string() + ".tokens"); }

void write_token_columns(const Path& path, const TokenColumns& columns) {
  GATO_CHECK(columns.tasks.size() <= kMaxTasks, columns.tasks.size(), " tasks");
  ColumnFileWriter file(path, FileKind::kTokenColumns);
  for (size_t task = 0; task < columns.tasks.size(); ++task) {
    for (const TokenColumns::Field& field : columns.tasks[task]) store_field(file, task, field);
  }
  file.footer().mutable_tokens()->set_tokenizer_digest(columns.tokenizer_digest);
  file.footer().mutable_tokens()->set_shard_fingerprint(columns.shard_fingerprint);
  file.finish();
}

struct TokenColumnsReader::State {
  explicit State(const Path& path) : file(path, FileKind::kTokenColumns) {}

  void open();
  void bind(const format::Column& column);
  [[nodiscard]] const VariableColumn<uint32_t>& column(int task, Group group, int field) const;

  ColumnFile file;
  std::string tokenizer_digest, shard_fingerprint;
  std::vector<FieldKey> keys;
  std::vector<VariableColumn<uint32_t>> columns;  // Aligned with keys.
  /// Of every task the observation's and the action's fields: index into `columns`, -1 where a field has no tokens.
  std::vector<std::array<std::vector<int32_t>, 2>> column_of;
};

void TokenColumnsReader::State::open() {
  if (!file.footer().has_tokens()) file.fail(file.payload_bytes(), "the footer does not describe token columns");
  tokenizer_digest = file.footer().tokens().tokenizer_digest();
  shard_fingerprint = file.footer().tokens().shard_fingerprint();
  for (const format::Column& column : file.footer().columns()) bind(column);
  check_disjoint(file);
}

void TokenColumnsReader::State::bind(const format::Column& column) {
  const bool known_role = column.role() == format::OBSERVATION || column.role() == format::ACTION;
  if (!known_role || column.task() >= kMaxTasks || column.field() >= kMaxFieldsOfGroup) {
    file.fail(file.payload_bytes(), "the footer has a column of role ", static_cast<int>(column.role()), ", task ",
              column.task(), ", field ", column.field(), ", which no token column can have");
  }
  const Group group = column.role() == format::OBSERVATION ? Group::kObservation : Group::kAction;
  const std::string name = cat("tokens of task ", column.task(), ", ", group_name(group), " field ", column.field());
  if (column.task() >= column_of.size()) column_of.resize(column.task() + 1);
  std::vector<int32_t>& of_group = column_of[column.task()][static_cast<size_t>(group)];
  if (column.field() >= of_group.size()) of_group.resize(column.field() + 1, -1);
  int32_t& slot = of_group[column.field()];
  if (slot >= 0) file.fail(file.payload_bytes(), "the footer has the ", name, " twice");
  slot = static_cast<int32_t>(columns.size());
  columns.emplace_back(file, column, format::UINT32, name);
  keys.push_back({static_cast<int>(column.task()), group, static_cast<int>(column.field()), columns.back().num_rows(),
                  columns.back().num_elements()});
}

const VariableColumn<uint32_t>& TokenColumnsReader::State::column(int task, Group group, int field) const {
  if (group == Group::kObservation || group == Group::kAction) {
    if (task >= 0 && static_cast<size_t>(task) < column_of.size()) {
      const auto& of_group = column_of[static_cast<size_t>(task)][static_cast<size_t>(group)];
      if (field >= 0 && static_cast<size_t>(field) < of_group.size() && of_group[static_cast<size_t>(field)] >= 0) {
        return columns[static_cast<size_t>(of_group[static_cast<size_t>(field)])];
      }
    }
  }
  throw DataError(cat(file.path().string(), ": no tokens for task ", task, ", ", group_name(group), " field ", field,
                      "; make the file again with gato-data tokenize"));
}

TokenColumnsReader::TokenColumnsReader(const Path& path) : state_(std::make_unique<State>(path)) { state_->open(); }
TokenColumnsReader::~TokenColumnsReader() = default;
TokenColumnsReader::TokenColumnsReader(TokenColumnsReader&&) noexcept = default;
TokenColumnsReader& TokenColumnsReader::operator=(TokenColumnsReader&&) noexcept = default;

const std::string& TokenColumnsReader::tokenizer_digest() const { return state_->tokenizer_digest; }
const std::string& TokenColumnsReader::shard_fingerprint() const { return state_->shard_fingerprint; }
uint64_t TokenColumnsReader::file_bytes() const { return state_->file.file_bytes(); }
const std::vector<TokenColumnsReader::FieldKey>& TokenColumnsReader::fields() const { return state_->keys; }

std::span<const uint64_t> TokenColumnsReader::offsets(int task, Group group, int field, uint64_t first_step,
                                                      uint64_t num_steps) const {
  return state_->column(task, group, field).table(first_step, num_steps);
}

TokenColumnsReader::Run TokenColumnsReader::run(int task, Group group, int field, uint64_t first_step,
                                                uint64_t num_steps) const {
  const VariableColumn<uint32_t>& column = state_->column(task, group, field);
  const auto ends = column.table(first_step, num_steps);
  return {ends, column.elements(ends)};
}

std::span<const uint32_t> TokenColumnsReader::tokens(int task, Group group, int field, uint64_t step) const {
  return state_->column(task, group, field).row(step);
}

std::vector<ShardDamage> TokenColumnsReader::verify() const {
  std::vector<ShardDamage> damages;
  for (DamagedBlock& block : state_->file.damaged_blocks()) damages.push_back({block.offset, std::move(block.message)});
  if (!damages.empty()) return damages;
  for (const VariableColumn<uint32_t>& column : state_->columns) {
    try {
      (void)column.table(0, column.num_rows());
    } catch (const DataError& error) {
      damages.push_back({column.table_offset(), error.what()});
    }
  }
  return damages;
}

}  // namespace gato::episode
