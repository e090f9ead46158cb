#include <nlohmann/json.hpp>

#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/json_fields.h"
#include "gato/core/text.h"
#include "gato/data/statistics.h"
#include "gato/tokenizer/vocabulary.h"

namespace gato::data {
namespace {

using episode::Group;
using episode::Modality;

constexpr std::string_view kFormat = "gato.statistics";
constexpr int64_t kVersion = 1;
constexpr size_t kMaxCounts = 1024;
constexpr size_t kMaxFields = 1024;
constexpr size_t kMaxTasks = 65536;

constexpr std::array<std::string_view, 3> kGroupNames = {"observation", "action", "label"};

/// Counts without the zeros at both ends, which are most of the 1024 bins.
Json counts_json(const std::vector<int64_t>& counts) {
  size_t first = 0, end = counts.size();
  while (end > 0 && counts[end - 1] == 0) --end;
  while (first < end && counts[first] == 0) ++first;
  Json json = Json::object();
  json["size"] = counts.size();
  json["first"] = first;
  json["values"] = std::vector<int64_t>(counts.begin() + static_cast<std::ptrdiff_t>(first),
                                        counts.begin() + static_cast<std::ptrdiff_t>(end));
  return json;
}

std::vector<int64_t> counts_from(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  const auto size = static_cast<size_t>(fields.integer("size", 0, static_cast<int64_t>(kMaxCounts)));
  const auto first = static_cast<size_t>(fields.integer("first", 0, static_cast<int64_t>(size)));
  const Json& values = fields.array("values");
  fields.finish();
  if (values.size() > size - first) fields.fail("values", cat("has ", values.size(), " counts for ", size - first));
  std::vector<int64_t> counts(size, 0);
  for (size_t i = 0; i < values.size(); ++i) {
    if (!values[i].is_number_unsigned() || values[i].get<uint64_t>() > (uint64_t{1} << 62)) {
      fields.fail("values", cat("item ", i, " is no count"));
    }
    counts[first + i] = values[i].get<int64_t>();
  }
  return counts;
}

Json field_json(const FieldStatistics& field) {
  Json json = Json::object();
  json["group"] = kGroupNames[static_cast<size_t>(field.group)];
  json["name"] = field.name;
  json["modality"] = episode::modality_name(field.modality);
  json["unit"] = field.unit;
  json["count"] = field.count;
  json["minimum"] = field.minimum;
  json["maximum"] = field.maximum;
  json["mean"] = field.mean;
  json["squares"] = field.squares;
  json["outside"] = field.outside;
  json["counts"] = counts_json(field.counts);
  return json;
}

FieldStatistics field_from(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  FieldStatistics field;
  field.group = static_cast<Group>(fields.choice("group", {kGroupNames[0], kGroupNames[1], kGroupNames[2]}));
  field.name = fields.text("name");
  field.modality = static_cast<Modality>(fields.choice("modality", {"text", "image", "discrete", "continuous"}));
  constexpr std::array<std::string_view, 3> kUnits = {"value", "tokens", "bytes"};
  field.unit = kUnits[fields.choice("unit", {kUnits[0], kUnits[1], kUnits[2]})];
  constexpr int64_t kMost = int64_t{1} << 62;
  field.count = fields.integer("count", 0, kMost);
  field.minimum = fields.number("minimum");
  field.maximum = fields.number("maximum");
  field.mean = fields.number("mean");
  field.squares = fields.number("squares");
  field.outside = fields.integer("outside", 0, field.count);
  field.counts = counts_from(fields.object("counts"), where + ".counts");
  fields.finish();
  return field;
}

Json task_json(const TaskStatistics& task) {
  Json json = Json::object();
  json["task"] = task.task;
  json["episodes"] = task.episodes;
  json["steps"] = task.steps;
  json["fields"] = Json::array();
  for (const FieldStatistics& field : task.fields) json["fields"].push_back(field_json(field));
  return json;
}

TaskStatistics task_from(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  TaskStatistics task;
  task.task = fields.text("task");
  task.episodes = fields.integer("episodes", 0);
  task.steps = fields.integer("steps", 0);
  const Json& list = fields.array("fields");
  if (list.size() > kMaxFields) fields.fail("fields", cat("has ", list.size(), " items, at most ", kMaxFields));
  for (size_t i = 0; i < list.size(); ++i) task.fields.push_back(field_from(list[i], cat(where, ".fields[", i, "]")));
  fields.finish();
  return task;
}

Json document(const std::vector<const TaskStatistics*>& tasks) {
  Json json = Json::object();
  json["format"] = kFormat;
  json["version"] = kVersion;
  json["tasks"] = Json::array();
  for (const TaskStatistics* task : tasks) json["tasks"].push_back(task_json(*task));
  return json;
}

std::vector<TaskStatistics> tasks_from(JsonFields& fields, const std::string& origin) {
  if (fields.text("format") != kFormat) fields.fail("format", cat("is not ", kFormat));
  if (fields.integer("version") != kVersion) fields.fail("version", cat("is not ", kVersion));
  const Json& list = fields.array("tasks");
  if (list.size() > kMaxTasks) fields.fail("tasks", cat("has ", list.size(), " items, at most ", kMaxTasks));
  std::vector<TaskStatistics> tasks;
  for (size_t i = 0; i < list.size(); ++i) tasks.push_back(task_from(list[i], cat(origin, ": tasks[", i, "]")));
  return tasks;
}

}  // namespace

std::string shard_statistics_json(const ShardStatistics& statistics) {
  std::vector<const TaskStatistics*> tasks;
  for (const TaskStatistics& task : statistics.tasks) tasks.push_back(&task);
  Json json = document(tasks);
  json["fingerprint"] = statistics.fingerprint;
  json["tokenizer"] = statistics.tokenizer;
  return json.dump() + "\n";
}

ShardStatistics parse_shard_statistics(std::string_view text, const std::string& origin) {
  const Json json = parse_json(text, origin);
  JsonFields fields(json, origin);
  ShardStatistics statistics;
  statistics.tasks = tasks_from(fields, origin);
  statistics.fingerprint = fields.text("fingerprint");
  statistics.tokenizer = fields.text("tokenizer");
  fields.finish();
  return statistics;
}

std::string statistics_json(const StatisticsByTask& statistics) {
  std::vector<const TaskStatistics*> tasks;
  for (const auto& [id, task] : statistics) tasks.push_back(&task);
  return document(tasks).dump() + "\n";
}

StatisticsByTask parse_statistics(std::string_view text, const std::string& origin) {
  const Json json = parse_json(text, origin);
  JsonFields fields(json, origin);
  StatisticsByTask statistics;
  for (TaskStatistics& task : tasks_from(fields, origin)) {
    const std::string id = task.task;
    if (!statistics.try_emplace(id, std::move(task)).second) fields.fail("tasks", cat("names ", id, " twice"));
  }
  fields.finish();
  return statistics;
}

}  // namespace gato::data
