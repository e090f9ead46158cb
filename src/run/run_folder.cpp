#include "gato/run/run_folder.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "gato/checkpoint/checkpoint.h"
#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/json_fields.h"
#include "gato/core/log.h"
#include "gato/core/text.h"
#include "gato/run/metrics.h"
#include "run/clock.h"
#include "run/host.h"
#include "run/suite_name.h"

namespace gato::run {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxConfigBytes = uint64_t{1} << 20;
constexpr uint64_t kMaxScheduleBytes = uint64_t{64} << 20;
constexpr uint64_t kMaxEnvironmentBytes = uint64_t{64} << 20;
constexpr const char* kFormat = "gato-environment";
constexpr int64_t kVersion = 1;

/// Keeps a configuration that is about to be replaced, unless a kill came between keeping and replacing it before.
void keep_config(const Path& root, const std::string& yaml) {
  int64_t number = 1;
  while (fs::exists(root / cat("config-", number, ".yaml"))) ++number;
  const Path newest = root / cat("config-", number - 1, ".yaml");
  if (number > 1 && read_file(newest, kMaxConfigBytes) == yaml) return;
  const Path kept = root / cat("config-", number, ".yaml");
  write_file_atomic(kept, yaml);
  log::info("run", root.string(), ": the configuration changed; the previous one is kept as ",
            kept.filename().string());
}

/// The attempts in environment.json, checked as far as this program uses them.
Json parse_attempts(const Path& path) {
  const Json json = parse_json(read_file(path, kMaxEnvironmentBytes), path.string());
  JsonFields fields(json, path.string());
  if (fields.text("format") != kFormat || fields.integer("version") != kVersion) {
    fields.fail("format", cat("expected ", kFormat, " version ", kVersion));
  }
  const Json& attempts = fields.array("attempts");
  for (size_t i = 0; i < attempts.size(); ++i) {
    static_cast<void>(JsonFields(attempts[i], cat(path.string(), ": attempts[", i, "]")).integer("attempt", 1));
  }
  return attempts;
}

int64_t last_attempt(const Json& attempts) { return attempts.empty() ? 0 : attempts.back()["attempt"].get<int64_t>(); }

/// The same number from the metrics, for when environment.json is lost.
int64_t last_attempt_in_metrics(const Path& path) {
  int64_t last = 0;
  for (const MetricPoint& point : read_metrics(path).points) last = std::max(last, point.attempt);
  return last;
}

/// A free name for a damaged file, which is kept.
Path damaged_name(const Path& path) {
  int64_t number = 1;
  while (fs::exists(cat(path.string(), ".damaged-", number))) ++number;
  return cat(path.string(), ".damaged-", number);
}

}  // namespace

RunFolder::RunFolder(Path root) : root_(std::move(root)) { GATO_CHECK(!root_.empty(), "a run folder needs a path"); }

bool RunFolder::exists() const { return fs::exists(config_path()); }

Path RunFolder::results_path(int64_t step, const std::string& suite) const {
  GATO_CHECK(is_suite_name(suite), "\"", suite, "\" cannot be the name of a suite");
  return results_path() / cat(checkpoint::step_name(step), "@", suite);
}

void RunFolder::create() {
  for (const Path& folder : {checkpoints_path(), queue_path(), results_path()}) make_folders(folder);
}

void RunFolder::lock() {
  if (lock_) return;
  make_folders(root_);
  lock_ = std::make_unique<FileLock>(lock_path(),
                                     "wait until it ends or stop it, or give this run another folder (run.dir=PATH)");
}

bool RunFolder::write_config(std::string_view yaml) {
  if (!exists()) {
    write_file_atomic(config_path(), yaml);
    return false;
  }
  const std::string old = read_file(config_path(), kMaxConfigBytes);
  if (old == yaml) return false;
  keep_config(root_, old);
  write_file_atomic(config_path(), yaml);
  return true;
}

void RunFolder::write_schedule(std::string_view json) { write_file_atomic(schedule_path(), json); }

std::optional<std::string> RunFolder::read_schedule() const {
  if (!fs::exists(schedule_path())) return std::nullopt;
  return read_file(schedule_path(), kMaxScheduleBytes);
}

int64_t RunFolder::begin_attempt(const std::map<std::string, std::string>& versions,
                                 const std::vector<std::string>& command) {
  Json attempts = Json::array();
  int64_t previous = 0;
  try {
    if (fs::exists(environment_path())) attempts = parse_attempts(environment_path());
    previous = last_attempt(attempts);
  } catch (const DataError& error) {
    previous = last_attempt_in_metrics(metrics_path());
    const Path aside = damaged_name(environment_path());
    rename_durable(environment_path(), aside);
    log::warning("run", error.what(), "; it is kept as ", aside.filename().string(), " and a new one is begun");
  }
  Json attempt;
  attempt["attempt"] = previous + 1;
  attempt["time"] = std::round(seconds_since_1970() * 1000) / 1000;
  attempt["command"] = command;
  attempt["versions"] = versions;
  attempt["host"] = host_facts();
  attempt["variables"] = listed_environment();
  attempts.push_back(std::move(attempt));
  Json file;
  file["format"] = kFormat;
  file["version"] = kVersion;
  file["attempts"] = std::move(attempts);
  write_file_atomic(environment_path(), file.dump(1, ' ', false, Json::error_handler_t::replace) + "\n");
  return previous + 1;
}

int64_t RunFolder::attempts() const {
  return fs::exists(environment_path()) ? last_attempt(parse_attempts(environment_path())) : 0;
}

}  // namespace gato::run
