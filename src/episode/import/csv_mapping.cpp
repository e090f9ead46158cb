#include "episode/import/csv_mapping.h"

#include <algorithm>
#include <set>
#include <utility>

#include "gato/core/error.h"
#include "gato/core/excerpt.h"
#include "gato/core/text.h"

namespace gato::episode {
namespace {

void check_discrete(const CsvField& field, ConfigProblems& problems) {
  if (field.modality != CsvModality::kDiscrete) {
    if (field.num_values) problems.add("num_values", "is for discrete fields only");
    if (!field.values.empty()) problems.add("values", "is for discrete fields only");
    return;
  }
  if (field.num_values.has_value() == !field.values.empty()) {
    problems.add("num_values", "a discrete field needs either num_values or values: they are never guessed");
  }
  if (std::set<std::string>(field.values.begin(), field.values.end()).size() != field.values.size()) {
    problems.add("values", "names a word twice");
  }
}

void check_field(const CsvField& field, bool is_action, ConfigProblems& problems) {
  const bool single = field.modality == CsvModality::kText || field.modality == CsvModality::kImage;
  if (field.columns.empty() || (single && field.columns.size() != 1)) {
    problems.add("columns", single ? "must name the one column of the text or file name" : "must name columns");
  }
  check_discrete(field, problems);
  if (field.modality == CsvModality::kImage && field.shape.size() != 3) {
    problems.add("shape", "an image needs [height, width, 3], 0 where a size varies");
  }
  int64_t elements = 1;
  for (const int64_t size : field.shape)
    elements = std::clamp<int64_t>(size, 0, 1 << 20) * std::min<int64_t>(elements, 1 << 20);
  if (!single && !field.shape.empty() && elements != static_cast<int64_t>(field.columns.size())) {
    problems.add("shape", cat("has ", elements, " elements, but there are ", field.columns.size(), " columns"));
  }
  if (!field.label.empty() && (!is_action || field.label.size() != field.columns.size())) {
    problems.add("label", is_action ? "must name as many columns as `columns`" : "is for action fields only");
  }
}

void check_fields(std::string_view group, const std::map<std::string, CsvField>& fields, ConfigProblems& problems) {
  problems.push(group);
  for (const auto& [name, field] : fields) {
    problems.push(name);
    check_field(field, group == "action", problems);
    problems.pop();
  }
  problems.pop();
}

Modality modality_of(CsvModality modality) {
  switch (modality) {
    case CsvModality::kContinuous:
      return Modality::kContinuous;
    case CsvModality::kDiscrete:
      return Modality::kDiscrete;
    case CsvModality::kText:
      return Modality::kText;
    case CsvModality::kImage:
      return Modality::kImage;
  }
  return Modality::kText;
}

FieldSpec spec_of(const std::string& name, const CsvField& field) {
  FieldSpec spec;
  spec.name = name;
  spec.modality = modality_of(field.modality);
  spec.shape = field.shape;
  if (spec.shape.empty() && field.columns.size() > 1) spec.shape = {static_cast<int64_t>(field.columns.size())};
  if (field.num_values) spec.num_values = *field.num_values;
  if (!field.values.empty()) spec.num_values = static_cast<int64_t>(field.values.size());
  for (const double bound : field.low) spec.low.push_back(static_cast<float>(bound));
  for (const double bound : field.high) spec.high.push_back(static_cast<float>(bound));
  spec.codec = field.codec == CsvCodec::kJpeg ? ImageCodec::kJpeg : ImageCodec::kPng;
  spec.unit = field.unit;
  return spec;
}

/// Finds columns by name, and remembers which were used.
class Columns {
 public:
  Columns(const std::vector<std::string>& header, const std::string& table) : header_(header), table_(table) {
    for (size_t i = 0; i < header.size(); ++i) {
      if (!places_.emplace(header[i], i).second) {
        throw DataError(cat(table, ", line 1: column '", excerpt(header[i]), "' occurs twice"));
      }
    }
  }

  size_t find(const std::string& name) {
    const auto place = places_.find(name);
    if (place == places_.end()) {
      const std::string near = nearest(name, header_);
      throw ConfigError(cat("the mapping names column '", name, "', but ", table_, " has no such column",
                            near.empty() ? "" : cat("; did you mean '", excerpt(near), "'?")));
    }
    used_.insert(place->second);
    return place->second;
  }

  std::optional<size_t> find_optional(const std::string& name) {
    if (name.empty()) return std::nullopt;
    return find(name);
  }

  [[nodiscard]] std::vector<std::string> unused() const {
    std::vector<std::string> names;
    for (size_t i = 0; i < header_.size(); ++i) {
      if (used_.count(i) == 0) names.push_back(header_[i]);
    }
    return names;
  }

 private:
  const std::vector<std::string>& header_;
  const std::string& table_;
  std::map<std::string, size_t> places_;
  std::set<size_t> used_;
};

CsvFieldPlan plan_field(const std::string& name, const CsvField& field, const std::vector<std::string>& columns,
                        Columns& table) {
  CsvFieldPlan plan;
  plan.spec = spec_of(name, field);
  for (const std::string& column : columns) plan.columns.push_back(table.find(column));
  for (size_t i = 0; i < field.values.size(); ++i) plan.values.emplace(field.values[i], static_cast<int32_t>(i));
  return plan;
}

std::string bounds_text(const CsvFieldPlan& field) {
  const FieldSpec& spec = field.spec;
  if (!field.values.empty()) {  // All of them: an import goes on only where they mean the same.
    std::vector<std::string> words(field.values.size());
    for (const auto& [word, value] : field.values) {
      words[static_cast<size_t>(value)] = cat(excerpt(word), " = ", value);
    }
    return cat(", ", join(words, ", "));
  }
  if (spec.modality == Modality::kDiscrete) return cat(", values 0 to ", spec.num_values - 1);
  if (spec.modality != Modality::kContinuous) return "";
  if (spec.low.empty()) return ", no bounds";
  if (spec.low.size() > 1) return ", bounds for each element";
  return spec.high.empty() ? "" : cat(", bounds ", spec.low[0], " to ", spec.high[0]);
}

void describe(std::string_view group, const CsvFieldPlan& field, CsvPlan& plan) {
  std::vector<std::string> names;
  for (const size_t column : field.columns) names.push_back(excerpt(plan.header[column]));
  plan.mapping.push_back(cat(join(names, ", "), " -> ", group, " `", field.spec.name,
                             "`: ", modality_name(field.spec.modality), bounds_text(field),
                             field.spec.unit.empty() ? "" : " in " + field.spec.unit));
}

void describe_all(const CsvMapping& mapping, const Columns& table, CsvPlan& plan) {
  for (const CsvFieldPlan& field : plan.observation) describe("observation", field, plan);
  for (const CsvFieldPlan& field : plan.action) describe("action", field, plan);
  for (const CsvFieldPlan& field : plan.label) describe("the expert's label of action", field, plan);
  visit_fields(mapping.columns, [&](const char* name, const std::string& column, const char*) {
    if (!column.empty()) plan.mapping.push_back(cat(excerpt(column), " -> ", name));
  });
  for (const std::string& column : table.unused()) plan.mapping.push_back(cat(excerpt(column), ": not used"));
}

}  // namespace

void validate_config(const CsvMapping& mapping, ConfigProblems& problems) {
  if (mapping.task.empty()) problems.add("task", "is missing: the task's id, such as mine/arm");
  if (mapping.delimiter.size() != 1 || mapping.delimiter == "\"" || mapping.delimiter == "\n") {
    problems.add("delimiter", "must be one byte, and neither a quote nor a line end");
  }
  problems.push("columns");
  if (mapping.columns.episode.empty()) problems.add("episode", "is missing: the column with the episode's id");
  problems.pop();
  if (mapping.action.empty()) problems.add("action", "names no field: there would be nothing to learn");
  check_fields("observation", mapping.observation, problems);
  check_fields("action", mapping.action, problems);
}

CsvMapping load_csv_mapping(const Path& file) { return read_config<CsvMapping>(load_yaml(file.string())); }

CsvPlan plan_csv(const CsvMapping& mapping, std::vector<std::string> header, const std::string& table) {
  CsvPlan plan;
  plan.header = std::move(header);
  plan.delimiter = mapping.delimiter.front();
  Columns columns(plan.header, table);
  plan.task.id = mapping.task;
  plan.task.description = mapping.description;
  plan.task.licence = mapping.licence;
  plan.task.scoring = static_cast<Scoring>(mapping.scoring);
  plan.task.partial_view = mapping.partial_view;
  plan.task.max_steps = mapping.max_steps;
  plan.episode = columns.find(mapping.columns.episode);
  plan.reward = columns.find_optional(mapping.columns.reward);
  plan.terminated = columns.find_optional(mapping.columns.terminated);
  plan.truncated = columns.find_optional(mapping.columns.truncated);
  plan.success = columns.find_optional(mapping.columns.success);
  plan.agent = columns.find_optional(mapping.columns.agent);
  plan.seed = columns.find_optional(mapping.columns.seed);
  size_t labels = 0;
  for (const auto& [name, field] : mapping.observation) {
    plan.observation.push_back(plan_field(name, field, field.columns, columns));
    plan.task.observation.push_back(plan.observation.back().spec);
  }
  for (const auto& [name, field] : mapping.action) {
    plan.action.push_back(plan_field(name, field, field.columns, columns));
    plan.task.action.push_back(plan.action.back().spec);
    if (!field.label.empty()) ++labels;
  }
  if (labels != 0) {  // A field without a label of its own has the executed action as its label.
    for (const auto& [name, field] : mapping.action) {
      plan.label.push_back(plan_field(name, field, field.label.empty() ? field.columns : field.label, columns));
    }
  }
  check_task_spec(plan.task);
  describe_all(mapping, columns, plan);
  return plan;
}

}  // namespace gato::episode
