#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/json_fields.h"
#include "gato/core/text.h"
#include "gato/run/results.h"
#include "run/clock.h"
#include "run/json_lines.h"
#include "run/json_values.h"

namespace gato::run {
namespace {

constexpr const char* kFormat = "gato-summary";
constexpr int64_t kVersion = 1;

void put(Json& json, const char* key, const std::optional<double>& value) {
  if (value) json[key] = *value;
}

void put(Json& json, const char* key, const std::optional<std::pair<double, double>>& interval) {
  if (interval) json[key] = {interval->first, interval->second};
}

Json task_json(const TaskSummary& task) {
  Json json;
  json["scoring"] = scoring_name(task.scoring);
  put(json, "score", task.score);
  put(json, "ci95", task.ci95);
  json["rollouts"] = task.rollouts;
  put(json, "mean_return", task.mean_return);
  put(json, "expert_return", task.expert_return);
  put(json, "random_return", task.random_return);
  put(json, "success_rate", task.success_rate);
  put(json, "success_ci95", task.success_ci95);
  put(json, "exact_match", task.exact_match);
  if (task.loss) json["loss"] = loss_json(*task.loss);
  if (!task.note.empty()) json["note"] = task.note;
  return json;
}

std::optional<double> optional_number(JsonFields& fields, std::string_view key) {
  if (!fields.has(key)) return std::nullopt;
  return fields.number(key);
}

std::pair<double, double> parse_interval(JsonFields& fields, std::string_view key) {
  const Json& list = fields.array(key);
  if (list.size() != 2 || !list[0].is_number() || !list[1].is_number()) {
    fields.fail(key, "expected a list of two numbers");
  }
  const std::pair<double, double> interval(list[0].get<double>(), list[1].get<double>());
  if (!(interval.first <= interval.second)) fields.fail(key, "ends before it begins");
  return interval;
}

TaskSummary parse_task(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  TaskSummary task;
  task.scoring = parse_scoring(fields, "scoring");
  task.score = optional_number(fields, "score");
  if (fields.has("ci95")) task.ci95 = parse_interval(fields, "ci95");
  task.rollouts = fields.integer("rollouts", 0);
  task.mean_return = optional_number(fields, "mean_return");
  task.expert_return = optional_number(fields, "expert_return");
  task.random_return = optional_number(fields, "random_return");
  task.success_rate = optional_number(fields, "success_rate");
  if (fields.has("success_ci95")) task.success_ci95 = parse_interval(fields, "success_ci95");
  task.exact_match = optional_number(fields, "exact_match");
  if (fields.has("loss")) task.loss = parse_loss(fields.object("loss"), cat(where, ": loss"));
  if (fields.has("note")) task.note = fields.text("note");
  fields.finish();
  return task;
}

DomainSummary parse_domain(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  DomainSummary domain{fields.number("score"), fields.integer("tasks", 1)};
  if (fields.has("ci95")) domain.ci95 = parse_interval(fields, "ci95");
  fields.finish();
  return domain;
}

Json summary_json(const Summary& summary) {
  Json json;
  json["format"] = kFormat;
  json["version"] = kVersion;
  json["checkpoint"] = summary.checkpoint;
  json["step"] = summary.step;
  json["suite"] = summary.suite;
  json["tasks"] = Json::object();
  for (const auto& [name, task] : summary.tasks) json["tasks"][name] = task_json(task);
  json["domains"] = Json::object();
  for (const auto& [name, domain] : summary.domains) {
    json["domains"][name]["score"] = domain.score;
    json["domains"][name]["tasks"] = domain.tasks;
    put(json["domains"][name], "ci95", domain.ci95);
  }
  json["mean_score"] = summary.mean_score ? Json(*summary.mean_score) : Json(nullptr);
  put(json, "mean_ci95", summary.mean_ci95);
  json["tasks_at_50"] = summary.tasks_at_50;
  if (!summary.tasks_at.empty()) {
    for (const auto& [share, tasks] : summary.tasks_at) json["tasks_at"][std::to_string(share)] = tasks;
  }
  return json;
}

Summary parse_fields(JsonFields& fields, const std::string& origin) {
  check_format(fields, kFormat, kVersion);
  Summary summary;
  summary.checkpoint = fields.text("checkpoint");
  summary.step = fields.integer("step", 0);
  summary.suite = fields.text("suite");
  for (const auto& entry : fields.object("tasks").items()) {
    summary.tasks[entry.key()] = parse_task(entry.value(), cat(origin, ": tasks.", entry.key()));
  }
  for (const auto& entry : fields.object("domains").items()) {
    summary.domains[entry.key()] = parse_domain(entry.value(), cat(origin, ": domains.", entry.key()));
  }
  if (!fields.value("mean_score").is_null()) summary.mean_score = fields.number("mean_score");
  if (fields.has("mean_ci95")) summary.mean_ci95 = parse_interval(fields, "mean_ci95");
  summary.tasks_at_50 = fields.integer("tasks_at_50", 0);
  if (fields.has("tasks_at")) {
    JsonFields counts(fields.object("tasks_at"), cat(origin, ": tasks_at"));
    for (const int64_t share : {25, 50, 75, 100}) {
      summary.tasks_at[share] = counts.integer(std::to_string(share), 0);
    }
    counts.finish();
  }
  return summary;
}

}  // namespace

std::string to_json(const Summary& summary) { return dump_text(summary_json(summary)) + "\n"; }

Summary parse_summary(std::string_view json, const std::string& origin) {
  const Json root = parse_json(json, origin, {.max_depth = 8});
  JsonFields fields(root, origin);
  Summary summary = parse_fields(fields, origin);
  fields.finish();
  return summary;
}

void write_summary(const Path& folder, const Summary& summary) {
  write_file_atomic(folder / "summary.json", to_json(summary));
}

void append_scores(const Path& scores_file, const Summary& summary) {
  Json line;
  line["time"] = std::round(seconds_since_1970() * 1000) / 1000;
  line.update(summary_json(summary));
  append_line(scores_file, dump_text(line, -1), true);
}

std::vector<ScoreLine> read_scores(const Path& scores_file) {
  std::map<std::pair<std::string, int64_t>, ScoreLine> lines;
  static_cast<void>(for_each_json_line(scores_file, [&](const Json& json, const std::string& where) {
    JsonFields fields(json, where);
    ScoreLine line{fields.number("time"), parse_fields(fields, where)};
    fields.finish();
    lines[{line.summary.suite, line.summary.step}] = std::move(line);
  }));
  std::vector<ScoreLine> sorted;
  for (auto& [key, line] : lines) sorted.push_back(std::move(line));
  return sorted;
}

}  // namespace gato::run
