#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "gato/checkpoint/checkpoint.h"
#include "gato/core/error.h"
#include "gato/core/excerpt.h"
#include "gato/core/json.h"
#include "gato/core/json_fields.h"
#include "gato/core/text.h"
#include "gato/run/evaluation_queue.h"
#include "run/json_values.h"
#include "run/plan_json.h"
#include "run/queue_names.h"
#include "run/suite_name.h"

namespace gato::run {
namespace {

constexpr const char* kFormat = "gato-jobs";
constexpr int64_t kVersion = 1;
const std::initializer_list<std::string_view> kEventNames = {"claimed",  "done",      "failed", "lost",
                                                             "returned", "cancelled", "retried"};

Json part_json(const JobPart& part) {
  Json json = planned_task_json(part.task);
  json["first"] = part.first;
  json["shard"] = part.shard;
  json["num_shards"] = part.num_shards;
  return json;
}

JobPart parse_part(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  JobPart part;
  part.task = planned_task_of(fields);
  part.first = fields.integer("first", 0, kMaxRollouts);
  part.shard = fields.integer("shard", 0, kMaxRollouts);
  part.num_shards = fields.integer("num_shards", 1, kMaxRollouts);
  if (part.shard >= part.num_shards) fields.fail("shard", cat("is ", part.shard, " of ", part.num_shards));
  fields.finish();
  return part;
}

Job parse_job(const Json& json, const std::string& where) {
  if (!json.is_array() || json.empty()) throw DataError(cat(where, ": expected a list of at least one part"));
  Job job;
  for (const Json& part : json) job.parts.push_back(parse_part(part, cat(where, "[", job.parts.size(), "]")));
  return job;
}

/// Two jobs with one result would be one result.
void check_parts(const JobBatch& batch, JsonFields& fields) {
  std::set<std::string> results;
  for (const Job& job : batch.jobs) {
    for (const JobPart& part : job.parts) {
      if (results.insert(result_file_name(part.task.task, part.shard)).second) continue;
      fields.fail("jobs", cat(part.task.task, ", shard ", part.shard, ": is there twice"));
    }
  }
}

}  // namespace

std::string to_json(const JobBatch& batch) {
  Json json;
  json["format"] = kFormat;
  json["version"] = kVersion;
  json["checkpoint"] = batch.checkpoint;
  json["step"] = batch.step;
  json["suite"] = batch.suite;
  json["settings"] = settings_json(batch.settings);
  json["jobs"] = Json::array();
  for (const Job& job : batch.jobs) {
    Json parts = Json::array();
    for (const JobPart& part : job.parts) parts.push_back(part_json(part));
    json["jobs"].push_back(std::move(parts));
  }
  std::string text = dump_text(json) + "\n";
  static_cast<void>(parse_job_batch(text, cat("jobs of ", batch.suite)));  // what the reader refuses is never written
  return text;
}

JobBatch parse_job_batch(std::string_view text, const std::string& origin) {
  const Json json = parse_json(text, origin, {.max_bytes = kMaxBatchBytes, .max_depth = 8});
  JsonFields fields(json, origin);
  check_format(fields, kFormat, kVersion);
  JobBatch batch;
  batch.checkpoint = fields.text("checkpoint");
  batch.step = fields.integer("step", 0);
  if (batch.checkpoint != checkpoint::step_name(batch.step)) {
    fields.fail("checkpoint", cat("is \"", excerpt(batch.checkpoint), "\", but the step is ", batch.step));
  }
  batch.suite = fields.text("suite");
  if (!is_suite_name(batch.suite)) fields.fail("suite", "cannot be the name of a suite");
  batch.settings = parse_settings(fields.object("settings"), cat(origin, ": settings"));
  for (const Json& job : fields.array("jobs")) {
    batch.jobs.push_back(parse_job(job, cat(origin, ": jobs[", batch.jobs.size(), "]")));
  }
  check_parts(batch, fields);
  fields.finish();
  return batch;
}

std::string to_json(const JobEvent& event) {
  Json json;
  json["event"] = *(kEventNames.begin() + static_cast<size_t>(event.kind));
  json["worker"] = event.worker;
  if (!event.reason.empty()) json["reason"] = event.reason;
  json["time"] = event.time;
  return dump_text(json, -1) + "\n";
}

JobEvent parse_job_event(std::string_view text, const std::string& origin) {
  const Json json = parse_json(text, origin, {.max_bytes = kMaxEventBytes, .max_depth = 2});
  JsonFields fields(json, origin);
  JobEvent event;
  event.kind = static_cast<JobEventKind>(fields.choice("event", kEventNames));
  event.worker = fields.text("worker");
  if (!is_worker_name(event.worker)) fields.fail("worker", "cannot be the name of a worker");
  if (fields.has("reason")) event.reason = fields.text("reason");
  event.time = fields.number("time");
  fields.finish();
  return event;
}

}  // namespace gato::run
