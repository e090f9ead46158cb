#include "gato/run/progress_guard.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

#include "gato/core/error.h"
#include "gato/core/excerpt.h"
#include "gato/core/json.h"
#include "gato/core/json_fields.h"
#include "gato/core/log.h"
#include "run/clock.h"

namespace gato::run {
namespace {

constexpr const char* kFormat = "gato-failures";
constexpr int64_t kVersion = 1;
constexpr uint64_t kMaxBytes = uint64_t{1} << 20;
constexpr size_t kMaxFailures = 100, kMaxMessage = 2000;
using StepNote = std::array<int64_t, 2>;  // attempt and step, in this machine's byte order: never read elsewhere

FailureRecord read_record(const Path& path) {
  if (!std::filesystem::exists(path)) return {};
  try {
    return parse_failure_record(read_file(path, kMaxBytes), path.string());
  } catch (const DataError& error) {
    const Path aside = path.string() + ".damaged";
    rename_durable(path, aside);
    log::warning("run", error.what(), "; it is kept as ", aside.filename().string(), ", and failures count anew");
    return {};
  }
}

/// The step that attempt `attempt` worked on when it was killed; 0 when that is not known.
int64_t noted_step(const Path& path, int64_t attempt) {
  if (!std::filesystem::exists(path)) return 0;
  const std::string bytes = read_file(path, kMaxBytes);
  StepNote note{};
  if (bytes.size() != sizeof(note)) return 0;
  std::memcpy(note.data(), bytes.data(), sizeof(note));
  return note[0] == attempt && note[1] > 0 ? note[1] : 0;
}

AttemptFailure read_failure(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  AttemptFailure failure;
  failure.attempt = fields.integer("attempt", 1);
  failure.step = fields.integer("step", 1);
  failure.time = fields.number("time");
  failure.message = fields.text("message");
  fields.finish();
  return failure;
}

}  // namespace

std::string to_json(const FailureRecord& record) {
  Json json;
  json["format"] = kFormat;
  json["version"] = kVersion;
  json["open_attempt"] = record.open_attempt;
  json["failures"] = Json::array();
  for (const AttemptFailure& failure : record.failures) {
    json["failures"].push_back({{"attempt", failure.attempt},
                                {"step", failure.step},
                                {"time", failure.time},
                                {"message", failure.message.substr(0, kMaxMessage)}});
  }
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

FailureRecord parse_failure_record(std::string_view text, const std::string& origin) {
  const Json json = parse_json(text, origin, {static_cast<size_t>(kMaxBytes), 8});
  JsonFields fields(json, origin);
  if (fields.text("format") != kFormat || fields.integer("version") != kVersion) {
    fields.fail("format", cat("expected ", kFormat, " version ", kVersion));
  }
  FailureRecord record;
  record.open_attempt = fields.integer("open_attempt", 0);
  const Json& failures = fields.array("failures");
  if (failures.size() > kMaxFailures) fields.fail("failures", cat("more than ", kMaxFailures));
  for (size_t i = 0; i < failures.size(); ++i) {
    record.failures.push_back(read_failure(failures[i], cat(origin, ": failures[", i, "]")));
  }
  fields.finish();
  return record;
}

ProgressGuard::ProgressGuard(const Path& root, int64_t attempt, int64_t most)
    : path_(root / "failures.json"), step_path_(root / "failures.step"), attempt_(attempt), most_(most) {
  record_ = read_record(path_);
  const int64_t killed = record_.open_attempt;
  if (killed > 0) {
    const int64_t step = noted_step(step_path_, killed);
    if (step > 0) count({killed, step, seconds_since_1970(), "ended without a word (killed?)"});
  }
  record_.open_attempt = 0;
  if (most_ > 0 && static_cast<int64_t>(record_.failures.size()) >= most_) {
    write();
    refuse();
  }
  record_.open_attempt = attempt_;
  write();
  descriptor_ = ::open(step_path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (descriptor_ < 0) {
    const int error_number = errno;
    throw IoError(cat(step_path_.string(), ": cannot be written: ", std::strerror(error_number),
                      "; check the run folder's permissions and space"),
                  error_number);
  }
}

ProgressGuard::~ProgressGuard() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void ProgressGuard::working_on(int64_t step) {
  step_ = step;
  const StepNote note = {attempt_, step};
  static std::atomic<int64_t> failures{0};
  if (::pwrite(descriptor_, note.data(), sizeof(note), 0) != sizeof(note) && log::every(failures, 1000)) {
    log::warning("run", step_path_.string(), ": cannot be written: ", std::strerror(errno));
  }
}

void ProgressGuard::ended_well() {
  record_ = {};
  write();
}

void ProgressGuard::leave() {
  record_.open_attempt = 0;
  write();
}

void ProgressGuard::failed(std::string_view message) {
  if (step_ > 0) count({attempt_, step_, seconds_since_1970(), excerpt(message, kMaxMessage)});
  record_.open_attempt = 0;
  write();
  if (step_ > 0 && most_ > 0 && static_cast<int64_t>(record_.failures.size()) >= most_) refuse();
}

/// Only failures at one and the same step make a row.
void ProgressGuard::count(AttemptFailure failure) {
  if (!record_.failures.empty() && record_.failures.back().step != failure.step) record_.failures.clear();
  if (record_.failures.size() == kMaxFailures) record_.failures.erase(record_.failures.begin());
  record_.failures.push_back(std::move(failure));
}

void ProgressGuard::write() const { write_file_atomic(path_, to_json(record_)); }

void ProgressGuard::refuse() const {
  const AttemptFailure& last = record_.failures.back();
  throw NoProgressError(cat("the last ", record_.failures.size(), " attempts of this run failed at step ", last.step,
                            ", the last one so: ", last.message,
                            ". Restarting does not help: find the cause, then remove ", path_.string(),
                            " (or set train.max_failures_per_step=0) and start again"));
}

}  // namespace gato::run
