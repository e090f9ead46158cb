#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/json_fields.h"
#include "gato/core/log.h"
#include "gato/core/text.h"
#include "gato/run/evaluation_worker.h"
#include "run/exclusive_file.h"
#include "run/json_values.h"
#include "run/process_status.h"
#include "run/queue_names.h"

namespace gato::run {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFormat = "gato-worker";
constexpr int64_t kVersion = 2;
constexpr uint64_t kMaxStateBytes = uint64_t{64} << 10;

Path workers_folder(const RunFolder& folder) { return folder.queue_path() / kWorkersName; }
Path state_path(const Path& workers, const std::string& name) { return workers / (name + ".json"); }

/// A host's name as part of a worker's.
std::string host_part() {
  char host[256] = {};
  if (::gethostname(host, sizeof host - 1) != 0) return "host";
  std::string part;
  for (const char* c = host; *c != '\0' && part.size() < 60; ++c) {
    part += is_worker_name(std::string("x") + *c) ? *c : '_';
  }
  return part.empty() || part.front() == '.' ? "host" + part : part;
}

std::string new_worker_name() {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::random_device random;
  std::string tag;
  for (int i = 0; i < 8; ++i) tag += kDigits[random() % kDigits.size()];
  return cat(host_part(), "-", ::getpid(), "-", tag);
}

/// What the next state of a worker is written to.
Path unfinished_path(const Path& workers, const std::string& name) { return workers / cat(".", name, ".new"); }

/// Names of workers by their files that begin with `prefix` and end with `suffix`, sorted.
std::vector<std::string> names_between(const Path& workers, std::string_view prefix, std::string_view suffix) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator walk(workers, error);
  for (; !error && walk != fs::directory_iterator(); walk.increment(error)) {
    std::string name = walk->path().filename().string();
    if (!name.starts_with(prefix) || !name.ends_with(suffix) || name.size() <= prefix.size() + suffix.size()) continue;
    name = name.substr(prefix.size(), name.size() - prefix.size() - suffix.size());
    if (is_worker_name(name)) names.push_back(std::move(name));
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// Those that have a file, sorted.
std::vector<std::string> worker_names(const Path& workers) { return names_between(workers, "", ".json"); }

std::optional<WorkerState> read_state(const Path& workers, const std::string& name) {
  const Path path = state_path(workers, name);
  try {
    return parse_worker_state(read_file(path, kMaxStateBytes), path.string());
  } catch (const IoError& error) {
    if (error.error_number() == ENOENT) return std::nullopt;
    throw;
  } catch (const DataError&) {
    return std::nullopt;
  }
}

}  // namespace

std::string to_json(const WorkerState& state) {
  Json json;
  json["format"] = kFormat;
  json["version"] = kVersion;
  json["name"] = state.name;
  json["machine"] = state.machine;
  json["process"] = state.process;
  json["process_start"] = state.process_start;
  json["beat"] = state.beat;
  json["progress"] = state.progress;
  json["doing"] = state.doing;
  return dump_text(json) + "\n";
}

WorkerState parse_worker_state(std::string_view text, const std::string& origin) {
  const Json json = parse_json(text, origin, {.max_bytes = kMaxStateBytes, .max_depth = 2});
  JsonFields fields(json, origin);
  check_format(fields, kFormat, kVersion);
  WorkerState state;
  state.name = fields.text("name");
  if (!is_worker_name(state.name)) fields.fail("name", "cannot be the name of a worker");
  state.machine = fields.text("machine");
  state.process = fields.integer("process", 1);
  state.process_start = fields.unsigned_integer("process_start");
  state.beat = fields.integer("beat", 0);
  state.progress = fields.integer("progress", 0);
  state.doing = fields.text("doing");
  fields.finish();
  return state;
}

std::vector<WorkerState> read_workers(const RunFolder& folder) {
  std::vector<WorkerState> workers;
  for (const std::string& name : worker_names(workers_folder(folder))) {
    if (auto state = read_state(workers_folder(folder), name)) workers.push_back(std::move(*state));
  }
  return workers;
}

std::optional<WorkerState> worker_of_process(const RunFolder& folder, int64_t id) {
  const std::string here = machine_name();
  for (WorkerState& worker : read_workers(folder)) {
    if (worker.process != id || worker.machine != here || here.empty()) continue;
    if (process_life(worker.process, worker.process_start) != ProcessLife::kEnded) return std::move(worker);
  }
  return std::nullopt;
}

struct WorkerPresence::Shared {
  Path path;
  std::mutex mutex;
  std::condition_variable wake;
  WorkerState state;
  std::atomic<int64_t> progress{0};
  bool ended = false;
  std::thread thread;

  void write() {
    std::string text;
    {
      const std::lock_guard lock(mutex);
      state.beat += 1;
      state.progress = progress.load(std::memory_order_relaxed);
      text = to_json(state);
    }
    // Without fsync: a sign of life that a power failure takes away is of no use.
    const Path temporary = unfinished_path(path.parent_path(), state.name);
    write_whole(temporary, text, false);
    fs::rename(temporary, path);
  }

  void beat(double seconds) {
    const auto interval = std::chrono::duration<double>(seconds);
    std::unique_lock lock(mutex);
    while (!wake.wait_for(lock, interval, [&] { return ended; })) {
      lock.unlock();
      try {
        write();
      } catch (const std::exception& error) {
        log::warning("run", "this worker cannot show that it lives; others may do its job again: ", error.what());
      }
      lock.lock();
    }
  }
};

WorkerPresence::WorkerPresence(const RunFolder& folder, double beat_seconds) : shared_(std::make_shared<Shared>()) {
  GATO_CHECK(beat_seconds > 0, "a beat every ", beat_seconds, " s");
  WorkerState& state = shared_->state;
  state.name = new_worker_name();
  state.machine = machine_name();
  state.process = ::getpid();
  if (const auto status = process_status(state.process)) state.process_start = status->start;
  state.doing = "nothing";
  shared_->path = state_path(workers_folder(folder), state.name);
  make_folders(workers_folder(folder));
  shared_->write();
  shared_->thread = std::thread([shared = shared_, beat_seconds] { shared->beat(beat_seconds); });
}

WorkerPresence::~WorkerPresence() {
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->ended = true;
  }
  shared_->wake.notify_all();
  shared_->thread.join();
  std::error_code ignored;
  fs::remove(shared_->path, ignored);
}

const std::string& WorkerPresence::name() const { return shared_->state.name; }

void WorkerPresence::set_doing(const std::string& doing) {
  const std::lock_guard lock(shared_->mutex);
  shared_->state.doing = doing;
}

void WorkerPresence::advance() { shared_->progress.fetch_add(1, std::memory_order_relaxed); }

LeaseWatch::LeaseWatch(const RunFolder& folder, double lease_seconds, double stall_seconds, std::function<double()> now)
    : workers_(workers_folder(folder)),
      lease_seconds_(lease_seconds),
      stall_seconds_(stall_seconds),
      now_(std::move(now)) {
  if (now_) return;
  now_ = [] { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); };
}

std::optional<std::string> LeaseWatch::silent(const std::string& worker) {
  const auto state = read_state(workers_, worker);
  const double now = now_();
  const int64_t beat = state ? state->beat : -1, progress = state ? state->progress : -1;
  const auto [seen, is_new] = seen_.try_emplace(worker, Seen{beat, progress, now, now});
  if (seen->second.beat != beat) {
    seen->second.beat = beat;
    seen->second.beat_since = now;
  }
  if (seen->second.progress != progress) {
    seen->second.progress = progress;
    seen->second.progress_since = now;
  }
  const bool is_here = state && !state->machine.empty() && state->machine == machine_name();
  if (is_here && process_life(state->process, state->process_start) == ProcessLife::kEnded) {
    return cat("worker ", worker, " ended without giving it back");
  }
  const double quiet = now - seen->second.beat_since;
  if (quiet < lease_seconds_) return std::nullopt;
  return cat("worker ", worker, " has shown no sign of life for ", format_seconds(quiet));
}

std::optional<std::string> LeaseWatch::gone(const std::string& worker) {
  if (auto reason = silent(worker)) return reason;
  const double still = now_() - seen_.at(worker).progress_since;
  if (still < stall_seconds_) return std::nullopt;
  return cat("worker ", worker, " lives but has not come on for ", format_seconds(still));
}

void LeaseWatch::remove_gone(const std::set<std::string>& needed) {
  for (const std::string& name : worker_names(workers_)) {
    std::error_code ignored;
    if (!needed.contains(name) && silent(name)) fs::remove(state_path(workers_, name), ignored);
  }
  for (const std::string& name : names_between(workers_, ".", ".new")) {
    std::error_code ignored;
    if (silent(name)) fs::remove(unfinished_path(workers_, name), ignored);
  }
}

}  // namespace gato::run
