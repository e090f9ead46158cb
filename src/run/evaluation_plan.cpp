#include "gato/run/evaluation_plan.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/json_fields.h"
#include "gato/core/text.h"
#include "run/json_values.h"
#include "run/plan_json.h"
#include "run/suite_name.h"
#include "run/task_name.h"

namespace gato::run {
namespace {

constexpr const char* kFormat = "gato-evaluation-plan";
constexpr int64_t kVersion = 1;
constexpr uint64_t kMaxPlanBytes = uint64_t{16} << 20;

Path plan_path(const RunFolder& folder) { return folder.root() / "eval" / "plan.json"; }

Json suite_json(const PlannedSuite& suite) {
  Json json;
  json["name"] = suite.name;
  json["tasks"] = Json::array();
  for (const PlannedTask& task : suite.tasks) json["tasks"].push_back(planned_task_json(task));
  json["texts"] = suite.texts;
  return json;
}

PlannedSuite parse_suite(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  PlannedSuite suite;
  suite.name = fields.text("name");
  if (!is_suite_name(suite.name)) fields.fail("name", "cannot be the name of a suite");
  for (const Json& task : fields.array("tasks")) {
    suite.tasks.push_back(parse_planned_task(task, cat(where, ": tasks[", suite.tasks.size(), "]")));
    if (suite.tasks.back().rollouts == 0) fields.fail("tasks", "holds a task without rollouts");
  }
  for (const Json& text : fields.array("texts")) {
    if (!text.is_string()) fields.fail("texts", "holds something that is no text");
    suite.texts.push_back(text.get<std::string>());
    if (!is_task_name(suite.texts.back())) fields.fail("texts", "holds something that is no domain/name");
  }
  fields.finish();
  return suite;
}

}  // namespace

void validate_config(const EvaluationConfig& config, ConfigProblems& problems) {
  const auto at_least = [&](const char* key, int64_t value, int64_t least) {
    if (value < least) problems.add(key, cat("must be at least ", least));
  };
  at_least("every", config.every, 0);
  at_least("rollouts", config.rollouts, 0);
  at_least("rollouts_per_job", config.rollouts_per_job, 0);
  at_least("tasks_together", config.tasks_together, 1);
  at_least("slots", config.slots, 1);
  at_least("seed", config.seed, 0);
  at_least("record", config.record, 0);
  at_least("attempts", config.attempts, 1);
  at_least("workers", config.workers, 0);
  at_least("worker_threads", config.worker_threads, 1);
  at_least("stall_seconds", config.stall_seconds, 1);
  if (!is_prompt_name(config.prompt)) problems.add("prompt", "must be none or demonstration");
  if (!is_weights_name(config.weights)) problems.add("weights", "must be fp32, bf16, int8 or empty");
  if (config.workers > 0 && config.suites.empty()) problems.add("workers", "needs eval.suites");
}

bool EvaluationPlan::is_due(int64_t step) const {
  return step > 0 && (step == last_step || (every > 0 && step % every == 0));
}

std::string to_json(const EvaluationPlan& plan) {
  Json json;
  json["format"] = kFormat;
  json["version"] = kVersion;
  json["every"] = plan.every;
  json["last_step"] = plan.last_step;
  json["rollouts_per_job"] = plan.rollouts_per_job;
  json["tasks_together"] = plan.tasks_together;
  json["settings"] = settings_json(plan.settings);
  json["suites"] = Json::array();
  for (const PlannedSuite& suite : plan.suites) json["suites"].push_back(suite_json(suite));
  std::string text = dump_text(json) + "\n";
  static_cast<void>(parse_evaluation_plan(text, "evaluation plan"));  // what the reader refuses is never written
  return text;
}

EvaluationPlan parse_evaluation_plan(std::string_view text, const std::string& origin) {
  const Json json = parse_json(text, origin, {.max_bytes = kMaxPlanBytes, .max_depth = 8});
  JsonFields fields(json, origin);
  check_format(fields, kFormat, kVersion);
  EvaluationPlan plan;
  plan.every = fields.integer("every", 0);
  plan.last_step = fields.integer("last_step", 0);
  plan.rollouts_per_job = fields.integer("rollouts_per_job", 0);
  plan.tasks_together = fields.integer("tasks_together", 1);
  plan.settings = parse_settings(fields.object("settings"), cat(origin, ": settings"));
  for (const Json& suite : fields.array("suites")) {
    plan.suites.push_back(parse_suite(suite, cat(origin, ": suites[", plan.suites.size(), "]")));
  }
  fields.finish();
  return plan;
}

void write_plan(const RunFolder& folder, const EvaluationPlan& plan) {
  const std::string text = to_json(plan);
  const Path path = plan_path(folder);
  if (std::filesystem::exists(path) && read_file(path, kMaxPlanBytes) == text) return;
  write_file_atomic(path, text);
}

std::optional<EvaluationPlan> read_plan(const RunFolder& folder) {
  const Path path = plan_path(folder);
  if (!std::filesystem::exists(path)) return std::nullopt;
  return parse_evaluation_plan(read_file(path, kMaxPlanBytes), path.string());
}

bool is_prompt_name(std::string_view name) { return name == "none" || name == "demonstration"; }

bool is_weights_name(std::string_view name) {
  return name.empty() || name == "fp32" || name == "bf16" || name == "int8";
}

Json settings_json(const PlaySettings& settings) {
  Json json;
  json["seed"] = settings.seed;
  json["slots"] = settings.slots;
  json["prompt"] = settings.prompt;
  json["weights"] = settings.weights;
  json["record_episodes"] = settings.record_episodes;
  json["max_attempts"] = settings.max_attempts;
  return json;
}

PlaySettings parse_settings(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  PlaySettings settings;
  settings.seed = fields.unsigned_integer("seed");
  settings.slots = fields.integer("slots", 1, kMaxSlots);
  settings.prompt = fields.text("prompt");
  if (!is_prompt_name(settings.prompt)) fields.fail("prompt", "must be none or demonstration");
  settings.weights = fields.text("weights");
  if (!is_weights_name(settings.weights)) fields.fail("weights", "must be fp32, bf16, int8 or empty");
  settings.record_episodes = fields.integer("record_episodes", 0, kMaxRollouts);
  settings.max_attempts = fields.integer("max_attempts", 1, kMaxRollouts);
  fields.finish();
  return settings;
}

Json planned_task_json(const PlannedTask& task) {
  Json json;
  json["task"] = task.task;
  json["rollouts"] = task.rollouts;
  json["rule"] = task.rule;
  json["temperature"] = task.temperature;
  json["top_p"] = task.top_p;
  return json;
}

PlannedTask parse_planned_task(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  PlannedTask task = planned_task_of(fields);
  fields.finish();
  return task;
}

PlannedTask planned_task_of(JsonFields& fields) {
  PlannedTask task;
  task.task = fields.text("task");
  if (!is_task_name(task.task)) fields.fail("task", cat("\"", task.task, "\" is not of the form domain/name"));
  task.rollouts = fields.integer("rollouts", 0, kMaxRollouts);
  static_cast<void>(fields.choice("rule", {"default", "greedy", "mean", "sample"}));
  task.rule = fields.text("rule");
  task.temperature = fields.number("temperature");
  if (task.temperature <= 0) fields.fail("temperature", "must be above 0");
  task.top_p = fields.number("top_p");
  if (task.top_p <= 0 || task.top_p > 1) fields.fail("top_p", "must be above 0 and at most 1");
  return task;
}

}  // namespace gato::run
