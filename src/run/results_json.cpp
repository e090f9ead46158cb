#include <nlohmann/json.hpp>
#include <set>

#include "gato/checkpoint/checkpoint.h"
#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/json_fields.h"
#include "gato/core/text.h"
#include "gato/run/results.h"
#include "run/json_values.h"
#include "run/suite_name.h"
#include "run/task_name.h"

namespace gato::run {
namespace {

constexpr const char* kFormat = "gato-result";
constexpr int64_t kVersion = 1;
constexpr size_t kMaxResultBytes = size_t{256} << 20;

Json rollout_json(const RolloutRecord& rollout, TaskScoring scoring) {
  Json json;
  json["seed"] = rollout.seed;
  json["return"] = number_or_null(rollout.episode_return);
  json["length"] = rollout.length;
  if (rollout.success) json["success"] = *rollout.success;
  if (rollout.exact_match) json["exact_match"] = *rollout.exact_match;
  if (scoring == TaskScoring::kExactMatch || !rollout.answer.empty() || !rollout.reference.empty()) {
    json["answer"] = rollout.answer;
    json["reference"] = rollout.reference;
  }
  if (!rollout.failure.empty()) json["failure"] = rollout.failure;
  return json;
}

RolloutRecord parse_rollout(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  RolloutRecord rollout;
  rollout.seed = fields.unsigned_integer("seed");
  rollout.episode_return = fields.number_or_nan("return");
  rollout.length = fields.integer("length", 0);
  if (fields.has("success")) rollout.success = fields.boolean("success");
  if (fields.has("exact_match")) rollout.exact_match = fields.boolean("exact_match");
  if (fields.has("answer") || fields.has("reference")) {
    rollout.answer = fields.text("answer");
    rollout.reference = fields.text("reference");
  }
  if (fields.has("failure")) rollout.failure = fields.text("failure");
  fields.finish();
  return rollout;
}

Json reference_json(const ReferenceReturn& reference) {
  Json json;
  json["mean"] = reference.mean;
  json["standard_error"] = reference.standard_error;
  json["episodes"] = reference.episodes;
  return json;
}

ReferenceReturn parse_reference(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  ReferenceReturn reference{fields.number("mean"), fields.number("standard_error"), fields.integer("episodes", 0)};
  if (reference.standard_error < 0) fields.fail("standard_error", "is negative");
  fields.finish();
  return reference;
}

Json decoding_json(const DecodingRecord& decoding) {
  Json json;
  json["rule"] = decoding.rule;
  json["temperature"] = decoding.temperature;
  json["top_p"] = decoding.top_p;
  json["context_steps"] = decoding.context_steps;
  json["prompt"] = decoding.prompt;
  if (!decoding.weights.empty()) json["weights"] = decoding.weights;
  return json;
}

DecodingRecord parse_decoding(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  DecodingRecord decoding;
  decoding.rule = fields.text("rule");
  decoding.temperature = fields.number("temperature");
  if (decoding.temperature <= 0) fields.fail("temperature", "must be above 0");
  if (fields.has("top_p")) decoding.top_p = fields.number("top_p");  // absent in the first results
  if (decoding.top_p <= 0 || decoding.top_p > 1) fields.fail("top_p", "must be above 0 and at most 1");
  decoding.context_steps = fields.integer("context_steps", 0);
  decoding.prompt = fields.text("prompt");
  if (fields.has("weights")) decoding.weights = fields.text("weights");
  fields.finish();
  return decoding;
}

Json play_json(const PlayRecord& play) {
  Json json;
  json["seed"] = play.seed;
  json["first"] = play.first;
  json["slots"] = play.slots;
  json["prefill_chunk"] = play.prefill_chunk;
  json["together"] = Json::array();
  for (const EpisodeRange& range : play.together) {
    json["together"].push_back({{"task", range.task}, {"first", range.first}, {"rollouts", range.rollouts}});
  }
  json["cuda_graph"] = play.cuda_graph;
  json["model"] = play.model;
  json["machine"] = play.machine;
  return json;
}

PlayRecord parse_play(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  PlayRecord play;
  play.seed = fields.unsigned_integer("seed");
  play.first = fields.integer("first", 0);
  play.slots = fields.integer("slots", 1);
  play.prefill_chunk = fields.integer("prefill_chunk", 0);
  for (const Json& entry : fields.array("together")) {
    JsonFields range(entry, cat(where, ": together[", play.together.size(), "]"));
    play.together.push_back({range.text("task"), range.integer("first", 0), range.integer("rollouts", 0)});
    range.finish();
  }
  play.cuda_graph = fields.boolean("cuda_graph");
  play.model = fields.text("model");
  play.machine = fields.text("machine");
  fields.finish();
  return play;
}

std::map<std::string, std::string> parse_versions(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  std::map<std::string, std::string> versions;
  for (const auto& entry : json.items()) versions[entry.key()] = fields.text(entry.key());
  return versions;
}

void check_rollouts(const TaskResult& result, JsonFields& fields) {
  std::set<uint64_t> seeds;
  for (const RolloutRecord& rollout : result.rollouts) {
    if (!seeds.insert(rollout.seed).second) fields.fail("rollouts", cat("seed ", rollout.seed, " is there twice"));
    if (result.scoring == TaskScoring::kExactMatch && !rollout.exact_match && rollout.failure.empty()) {
      fields.fail("rollouts", cat("seed ", rollout.seed, ": a task judged by exact match needs exact_match"));
    }
  }
}

/// The rules that types do not express; the same for what is written and what is read.
void check_result(const TaskResult& result, JsonFields& fields) {
  if (!is_task_name(result.task)) fields.fail("task", cat("\"", result.task, "\" is not of the form domain/name"));
  if (!is_suite_name(result.suite)) fields.fail("suite", cat("\"", result.suite, "\" cannot be the name of a suite"));
  if (checkpoint::parse_step_name(result.checkpoint).value_or(result.step) != result.step) {
    fields.fail("step", cat("is ", result.step, ", but the checkpoint is ", result.checkpoint));
  }
  if (result.shard >= result.num_shards) fields.fail("shard", cat("is ", result.shard, " of ", result.num_shards));
  if (result.scoring == TaskScoring::kLoss && !result.loss) fields.fail("loss", "is missing for a task judged by loss");
  if (result.seconds < 0) fields.fail("seconds", "is negative");
  check_rollouts(result, fields);
}

TaskResult parse_fields(JsonFields& fields, const std::string& origin) {
  TaskResult result;
  result.task = fields.text("task");
  result.checkpoint = fields.text("checkpoint");
  result.step = fields.integer("step", 0);
  result.suite = fields.text("suite");
  result.shard = fields.integer("shard", 0);
  result.num_shards = fields.integer("num_shards", 1);
  result.scoring = parse_scoring(fields, "scoring");
  result.decoding = parse_decoding(fields.object("decoding"), cat(origin, ": decoding"));
  result.expert = parse_reference(fields.object("expert"), cat(origin, ": expert"));
  result.random = parse_reference(fields.object("random"), cat(origin, ": random"));
  if (fields.has("loss")) result.loss = parse_loss(fields.object("loss"), cat(origin, ": loss"));
  if (fields.has("play")) result.play = parse_play(fields.object("play"), cat(origin, ": play"));
  result.versions = parse_versions(fields.object("versions"), cat(origin, ": versions"));
  result.seconds = fields.number("seconds");
  for (const Json& rollout : fields.array("rollouts")) {
    result.rollouts.push_back(parse_rollout(rollout, cat(origin, ": rollouts[", result.rollouts.size(), "]")));
  }
  return result;
}

Json result_json(const TaskResult& result) {
  Json json;
  json["format"] = kFormat;
  json["version"] = kVersion;
  json["task"] = result.task;
  json["checkpoint"] = result.checkpoint;
  json["step"] = result.step;
  json["suite"] = result.suite;
  json["shard"] = result.shard;
  json["num_shards"] = result.num_shards;
  json["scoring"] = scoring_name(result.scoring);
  json["decoding"] = decoding_json(result.decoding);
  json["expert"] = reference_json(result.expert);
  json["random"] = reference_json(result.random);
  if (result.loss) json["loss"] = loss_json(*result.loss);
  if (result.play) json["play"] = play_json(*result.play);
  json["versions"] = result.versions;
  json["seconds"] = result.seconds;
  json["rollouts"] = Json::array();
  for (const RolloutRecord& rollout : result.rollouts)
    json["rollouts"].push_back(rollout_json(rollout, result.scoring));
  return json;
}

}  // namespace

std::string to_json(const TaskResult& result) {
  const std::string text = dump_text(result_json(result)) + "\n";
  // What the strict reader would refuse must never be written: it would be found only when the report is made.
  static_cast<void>(parse_task_result(text, cat("result of ", result.task)));
  return text;
}

TaskResult parse_task_result(std::string_view json, const std::string& origin) {
  const Json root = parse_json(json, origin, {.max_bytes = kMaxResultBytes, .max_depth = 8});
  JsonFields fields(root, origin);
  check_format(fields, kFormat, kVersion);
  TaskResult result = parse_fields(fields, origin);
  fields.finish();
  check_result(result, fields);
  return result;
}

}  // namespace gato::run
