#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <set>
#include <unordered_set>
#include <utility>

#include "episode/import/csv_mapping.h"
#include "episode/import/csv_rows.h"
#include "gato/core/error.h"
#include "gato/core/excerpt.h"
#include "gato/core/text.h"
#include "gato/episode/formats.h"

namespace gato::episode {
namespace {

constexpr size_t kMaxEpisodeBytes = size_t{256} << 20;
constexpr uint64_t kMaxImageBytes = uint64_t{64} << 20;

/// A record's parts: the rows, each behind its line's number and size, then the table's number.
constexpr std::string_view kTablePart = "table";

std::unique_ptr<CsvRows> open_table(const Path& file) {
  return std::make_unique<CsvRows>(file_input(file), file.string());
}

std::vector<std::string> read_table_header(CsvRows& rows, char delimiter) {
  std::string row;
  if (!rows.next(row)) throw DataError(cat(rows.name(), ": is empty; its first row must name the columns"));
  return split_csv_row(row, delimiter, cat(rows.name(), ", line ", rows.line()));
}

struct NumberedRow {
  int64_t line = 0;
  std::string_view text;
};

/// Rows of an episode in one string: a head line "LINE SIZE\n" before each.
void append_row(std::string& rows, int64_t line, std::string_view row) {
  rows += cat(line, " ", row.size(), "\n");
  rows += row;
}

std::vector<NumberedRow> rows_of(std::string_view rows) {
  std::vector<NumberedRow> result;
  while (!rows.empty()) {
    NumberedRow row;
    size_t size = 0;
    const char* const end = rows.data() + rows.size();
    const auto line_end = std::from_chars(rows.data(), end, row.line);
    const auto size_end = std::from_chars(line_end.ptr + 1, end, size);
    rows.remove_prefix(static_cast<size_t>(size_end.ptr + 1 - rows.data()));
    row.text = rows.substr(0, size);
    rows.remove_prefix(size);
    result.push_back(row);
  }
  return result;
}

/// The rows of one table, an episode's at a time.
class CsvRecords : public RecordStream {
 public:
  CsvRecords(std::unique_ptr<CsvRows> rows, const CsvPlan& plan, size_t table)
      : rows_(std::move(rows)), plan_(plan), table_(table) {
    static_cast<void>(read_table_header(*rows_, plan_.delimiter));
    read_row();
  }

  bool next(RawRecord& record) override {
    record.parts.clear();
    if (!has_row_) return false;
    const std::string id = id_;
    if (!ids_.insert(id).second) {
      throw DataError(cat(rows_->name(), ", line ", line_, ", column ", plan_.episode + 1, ": episode '", excerpt(id),
                          "' comes back after other episodes; sort the rows by episode"));
    }
    record.origin = cat(rows_->name(), ", line ", line_, ", episode '", excerpt(id), "'");
    std::string rows;
    for (; has_row_ && id_ == id; read_row()) {
      append_row(rows, line_, row_);
      if (rows.size() > kMaxEpisodeBytes) {
        throw DataError(cat(rows_->name(), ", line ", line_, ": episode '", excerpt(id), "' has more than ",
                            kMaxEpisodeBytes, " bytes; cut it into parts with ids of their own"));
      }
    }
    record.parts.emplace_back("", std::move(rows));
    record.parts.emplace_back(kTablePart, std::to_string(table_));
    return true;
  }

  [[nodiscard]] uint64_t position() const override { return rows_->position(); }

 private:
  void read_row() {
    has_row_ = rows_->next(row_);
    if (!has_row_) return;
    line_ = rows_->line();
    const std::string place = cat(rows_->name(), ", line ", line_);
    const std::vector<std::string> cells = split_csv_row(row_, plan_.delimiter, place);
    if (cells.size() != plan_.header.size()) {
      throw DataError(
          cat(place, ": ", cells.size(), " cells, but the first row names ", plan_.header.size(), " columns"));
    }
    id_ = cells[plan_.episode];
    if (id_.empty()) throw DataError(cat(place, ", column ", plan_.episode + 1, ": no episode id"));
  }

  std::unique_ptr<CsvRows> rows_;
  const CsvPlan& plan_;
  size_t table_;
  std::string row_, id_;  ///< Read already, of the next record.
  int64_t line_ = 0;
  bool has_row_ = false;
  std::unordered_set<std::string> ids_;
};

/// A cell and where it stands.
struct Cell {
  const std::string& text;
  const std::string& table;
  int64_t line;
  size_t column;
  const std::string& name;

  template <class... Args>
  [[noreturn]] void fail(const Args&... problem) const {
    throw DataError(cat(table, ", line ", line, ", column ", column + 1, " (", excerpt(name), "): ", cat(problem...)));
  }
};

/// The number in a cell, without blanks around it. All of the cell must be the number.
template <class Number>
Number number_of(const Cell& cell, std::string_view kind) {
  std::string_view text = trim(cell.text);
  if (text.empty()) cell.fail("empty, expected ", kind);
  if (text.front() == '+') text.remove_prefix(1);
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc::result_out_of_range) cell.fail("'", excerpt(cell.text), "' is out of range for ", kind);
  if (error != std::errc{} || end != text.data() + text.size()) {
    cell.fail("'", excerpt(cell.text), "' is not ", kind);
  }
  return number;
}

float float_of(const Cell& cell) {
  const auto number = number_of<double>(cell, "a number");
  if (std::isnan(number)) cell.fail("NaN; leave the row out or put a number there");
  if (std::isfinite(number) && std::abs(number) > static_cast<double>(std::numeric_limits<float>::max())) {
    cell.fail("'", excerpt(cell.text), "' is out of range for a 32-bit number");
  }
  return static_cast<float>(number);
}

bool bool_of(const Cell& cell) {
  std::string word(trim(cell.text));
  std::transform(word.begin(), word.end(), word.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? char(c + 32) : c; });
  if (word == "1" || word == "true") return true;
  if (word == "0" || word == "false") return false;
  cell.fail("'", excerpt(cell.text), "' is neither true or 1 nor false or 0");
}

int32_t discrete_of(const Cell& cell, const CsvFieldPlan& field) {
  if (field.values.empty()) {
    const auto number = number_of<int64_t>(cell, "a whole number");
    if (number < 0 || number >= field.spec.num_values) {
      cell.fail(number, " is outside [0, ", field.spec.num_values, ") of field '", field.spec.name, "'");
    }
    return static_cast<int32_t>(number);
  }
  const auto word = field.values.find(cell.text);
  if (word == field.values.end()) {
    cell.fail("'", excerpt(cell.text), "' is not among the values of field '", field.spec.name, "' in the mapping");
  }
  return word->second;
}

/// The picture that a cell names, beside the table or in a folder below it.
std::string picture_of(const Cell& cell, const Path& folder) {
  const Path relative(cell.text);
  const bool climbs = std::find(relative.begin(), relative.end(), "..") != relative.end();
  if (relative.empty() || relative.is_absolute() || climbs) {
    cell.fail("'", excerpt(cell.text), "' is no file name relative to the table's folder");
  }
  const Path path = folder / relative;
  std::error_code error;
  const Path real = std::filesystem::canonical(path, error);
  const Path real_folder = std::filesystem::canonical(folder.empty() ? Path(".") : folder, error);
  const bool inside =
      std::mismatch(real_folder.begin(), real_folder.end(), real.begin(), real.end()).first == real_folder.end();
  if (error || !inside || !std::filesystem::is_regular_file(real, error)) {
    cell.fail("'", excerpt(cell.text), "' is no file in the table's folder");
  }
  return read_file(real, kMaxImageBytes);
}

/// Builds an episode row by row.
class EpisodeBuilder {
 public:
  EpisodeBuilder(const CsvPlan& plan, const Path& table) : plan_(plan), table_(table), table_name_(table.string()) {
    episode_.observation.resize(plan.observation.size());
    episode_.action.resize(plan.action.size());
    episode_.label.resize(plan.label.size());
  }

  void add(const NumberedRow& row, bool last) {
    cells_ = split_csv_row(row.text, plan_.delimiter, cat(table_name_, ", line ", row.line));
    line_ = row.line;
    add_fields(plan_.observation, episode_.observation);
    add_fields(plan_.action, episode_.action);
    add_fields(plan_.label, episode_.label);
    if (plan_.reward) episode_.reward.push_back(float_of(cell(*plan_.reward)));
    if (episode_.num_steps == 0) {
      episode_.id = cells_[plan_.episode];
      if (plan_.agent) episode_.source_agent = cells_[*plan_.agent];
      if (plan_.seed) episode_.seed = number_of<uint64_t>(cell(*plan_.seed), "a seed, a whole number from 0");
    } else {
      check_same(plan_.agent, agent_cell_);
      check_same(plan_.seed, seed_cell_);
    }
    if (plan_.agent) agent_cell_ = cells_[*plan_.agent];
    if (plan_.seed) seed_cell_ = cells_[*plan_.seed];
    add_end(plan_.terminated, last, episode_.terminated);
    add_end(plan_.truncated, last, episode_.truncated);
    if (plan_.success && last && !trim(cells_[*plan_.success]).empty()) {
      episode_.success = bool_of(cell(*plan_.success));
    }
    ++episode_.num_steps;
  }

  Episode take() { return std::move(episode_); }

 private:
  [[nodiscard]] Cell cell(size_t column) const {
    return {cells_[column], table_name_, line_, column, plan_.header[column]};
  }

  void add_fields(const std::vector<CsvFieldPlan>& fields, std::vector<Column>& columns) {
    for (size_t i = 0; i < fields.size(); ++i) {
      for (const size_t column : fields[i].columns) add_value(fields[i], cell(column), columns[i]);
    }
  }

  void add_value(const CsvFieldPlan& field, const Cell& cell, Column& column) const {
    switch (field.spec.modality) {
      case Modality::kContinuous:
        column.continuous.push_back(float_of(cell));
        return;
      case Modality::kDiscrete:
        column.discrete.push_back(discrete_of(cell, field));
        return;
      case Modality::kText:
        if (!is_valid_utf8(cell.text)) cell.fail("invalid UTF-8; save the table as UTF-8");
        column.text.push_back(cell.text);
        return;
      case Modality::kImage:
        column.encoded.push_back(picture_of(cell, table_.parent_path()));
        return;
    }
  }

  void check_same(const std::optional<size_t>& column, const std::string& before) const {
    if (column && cells_[*column] != before) {
      cell(*column).fail("'", excerpt(cells_[*column]), "', but '", excerpt(before), "' in the episode's row before");
    }
  }

  void add_end(const std::optional<size_t>& column, bool last, bool& value) const {
    if (!column) return;
    value = bool_of(cell(*column));
    if (value && !last) {
      cell(*column).fail("true, but the episode goes on in the next row; give what follows another id");
    }
  }

  const CsvPlan& plan_;
  const Path& table_;
  std::string table_name_;
  std::vector<std::string> cells_;
  int64_t line_ = 0;
  std::string agent_cell_, seed_cell_;
  Episode episode_;
};

class CsvFormat : public ForeignFormat {
 public:
  CsvFormat(std::vector<Path> tables, const Path& mapping_file) : tables_(std::move(tables)) {
    if (tables_.empty()) throw ConfigError("import csv: no table was given");
    const CsvMapping mapping = load_csv_mapping(mapping_file);
    std::set<std::string> names;
    for (size_t i = 0; i < tables_.size(); ++i) {
      if (!names.insert(tables_[i].filename().string()).second) {
        throw ConfigError(cat(tables_[i].string(),
                              ": another table has the same name, which makes the episodes' ids; "
                              "rename one"));
      }
      std::vector<std::string> header = read_table_header(*open_table(tables_[i]), mapping.delimiter.front());
      if (i == 0) {
        plan_ = plan_csv(mapping, std::move(header), tables_[0].string());
      } else if (header != plan_.header) {
        throw DataError(cat(tables_[i].string(), ", line 1: other columns than ", tables_[0].string(),
                            "; import tables with different columns one by one"));
      }
    }
    tasks_ = {plan_.task};
  }

  [[nodiscard]] const std::vector<TaskSpec>& tasks() const override { return tasks_; }
  [[nodiscard]] std::vector<std::string> mapping() const override { return plan_.mapping; }

  [[nodiscard]] std::vector<ImportUnit> units() const override {
    std::vector<ImportUnit> units;
    for (const Path& table : tables_) {
      std::error_code error;
      const auto bytes = std::filesystem::file_size(table, error);
      units.push_back({table.filename().string(), error ? 0 : bytes});
    }
    return units;
  }

  [[nodiscard]] std::unique_ptr<RecordStream> open(size_t unit) const override {
    return std::make_unique<CsvRecords>(open_table(tables_.at(unit)), plan_, unit);
  }

  [[nodiscard]] ParsedRecord parse(const RawRecord& record) const override {
    GATO_CHECK(record.parts.size() == 2 && record.parts[1].first == kTablePart, "a record of another format");
    const Path& table = tables_.at(std::stoul(record.parts[1].second));
    const std::vector<NumberedRow> rows = rows_of(record.parts[0].second);
    EpisodeBuilder builder(plan_, table);
    for (size_t i = 0; i < rows.size(); ++i) builder.add(rows[i], i + 1 == rows.size());
    Episode episode = builder.take();
    if (tables_.size() > 1) episode.id = cat(table.filename().string(), "/", episode.id);
    try {
      check_episode(plan_.task, episode);
    } catch (const DataError& error) {
      throw DataError(cat(record.origin, ": ", error.what()));
    }
    ParsedRecord parsed;
    parsed.episodes.push_back({0, std::move(episode)});
    return parsed;
  }

 private:
  std::vector<Path> tables_;
  CsvPlan plan_;
  std::vector<TaskSpec> tasks_;
};

}  // namespace

std::unique_ptr<ForeignFormat> csv_format(const std::vector<Path>& files, const Path& mapping) {
  return std::make_unique<CsvFormat>(files, mapping);
}

}  // namespace gato::episode
