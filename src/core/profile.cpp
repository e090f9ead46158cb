#include "gato/core/profile.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>

#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::profile {
namespace {

using Clock = std::chrono::steady_clock;

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count();
}

/// A scope that is open.
struct Frame {
  const char* name;
  int64_t begin_ns;
  int64_t nested_ns = 0;  // in scopes inside it
};

struct Total {
  int64_t calls = 0;
  int64_t self_ns = 0;
};

/// What one thread recorded. The thread and whoever starts or stops take the lock, which is nearly always free.
struct ThreadLog {
  std::mutex mutex;
  int64_t number = 0;
  uint64_t recording = 0;  // the recording that the rest belongs to
  std::vector<Frame> open;
  std::map<const char*, Total> totals;
  std::vector<Event> events;
  int64_t events_left_out = 0;
  int64_t covered_ns = 0;  // by outermost scopes
};

struct Registry {
  std::mutex mutex;
  std::set<std::string, std::less<>> names;  // nodes stay where they are
  std::vector<std::shared_ptr<ThreadLog>> logs;
  int64_t next_thread = 0;
  const ThreadLog* starter = nullptr;
  std::atomic<uint64_t> recording{0};  // number of the present or last one
  std::atomic<int64_t> begin_ns{0};
};

Registry& registry() {
  static auto* instance = new Registry;  // outlives threads that end after main
  return *instance;
}

ThreadLog& thread_log() {
  static thread_local const std::shared_ptr<ThreadLog> log = [] {
    auto made = std::make_shared<ThreadLog>();
    Registry& all = registry();
    const std::lock_guard lock(all.mutex);
    made->number = all.next_thread++;
    all.logs.push_back(made);
    return made;
  }();
  return *log;
}

/// Forgets what belongs to an earlier recording. The log's lock must be held.
void bring_up_to(ThreadLog& log, uint64_t recording) {
  if (log.recording == recording) return;
  log.recording = recording;
  log.open.clear();
  log.totals.clear();
  log.events.clear();
  log.events_left_out = log.covered_ns = 0;
}

double seconds_of(int64_t ns) { return static_cast<double>(ns) * 1e-9; }

std::vector<Part> parts_of(const std::map<std::string, Total>& totals) {
  std::vector<Part> parts;
  for (const auto& [name, total] : totals) parts.push_back({name, total.calls, seconds_of(total.self_ns)});
  std::stable_sort(parts.begin(), parts.end(), [](const Part& a, const Part& b) { return a.seconds > b.seconds; });
  return parts;
}

std::string padded(std::string text, size_t width, bool right) {
  const std::string fill(text.size() < width ? width - text.size() : 0, ' ');
  return right ? fill + text : text + fill;
}

std::string table_line(const std::string& name, const std::string& calls, double milliseconds, double share) {
  return padded(name, 40, false) + padded(calls, 9, true) + padded(format_fixed(milliseconds, 3), 12, true) +
         padded(format_fixed(100 * share, 1), 9, true) + "\n";
}

/// Set before the bit that says so.
struct Hooks {
  std::atomic<void (*)(const char*)> enter{nullptr};
  std::atomic<void (*)()> leave{nullptr};
};
Hooks& hooks() {
  static Hooks instance;
  return instance;
}

void record_enter(const char* name) {
  ThreadLog& log = thread_log();
  const std::lock_guard lock(log.mutex);
  bring_up_to(log, registry().recording.load());
  log.open.push_back({name, now_ns()});
}

void record_leave() {
  const int64_t end = now_ns();
  ThreadLog& log = thread_log();
  const std::lock_guard lock(log.mutex);
  bring_up_to(log, registry().recording.load());
  if (log.open.empty()) return;  // entered before the recording began
  const Frame frame = log.open.back();
  log.open.pop_back();
  if (!recording()) return;
  const int64_t spent = end - frame.begin_ns;
  Total& total = log.totals[frame.name];
  ++total.calls;
  total.self_ns += spent - frame.nested_ns;
  (log.open.empty() ? log.covered_ns : log.open.back().nested_ns) += spent;
  if (static_cast<int64_t>(log.events.size()) >= kMaxEvents) {
    ++log.events_left_out;
    return;
  }
  const int64_t origin = registry().begin_ns.load();
  log.events.push_back({frame.name, log.number, frame.begin_ns - origin, end - origin});
}

}  // namespace

namespace detail {

void enter(const char* name, unsigned listeners) {
  if ((listeners & kRecording) != 0) record_enter(name);
  if ((listeners & kRangeHooks) != 0) {
    if (auto* tell = hooks().enter.load()) tell(name);
  }
}

void leave(unsigned listeners) {
  if ((listeners & kRangeHooks) != 0) {
    if (auto* tell = hooks().leave.load()) tell();
  }
  if ((listeners & kRecording) != 0) record_leave();
}

}  // namespace detail

void set_range_hooks(const RangeHooks& given) {
  GATO_CHECK((given.enter == nullptr) == (given.leave == nullptr), "range hooks come in pairs");
  if (given.enter == nullptr) detail::g_listeners.fetch_and(~unsigned{detail::kRangeHooks});
  hooks().enter.store(given.enter);
  hooks().leave.store(given.leave);
  if (given.enter != nullptr) detail::g_listeners.fetch_or(detail::kRangeHooks);
}

const char* intern(std::string_view name) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  const auto found = all.names.find(name);
  return (found != all.names.end() ? found : all.names.emplace(name).first)->c_str();
}

void start() {
  const ThreadLog* starter = &thread_log();
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  detail::g_listeners.fetch_and(~unsigned{detail::kRecording});
  std::erase_if(all.logs, [](const auto& log) { return log.use_count() == 1; });  // of threads that ended
  all.starter = starter;
  all.begin_ns.store(now_ns());
  all.recording.fetch_add(1);
  detail::g_listeners.fetch_or(detail::kRecording);
}

Recording stop() {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  if ((detail::g_listeners.fetch_and(~unsigned{detail::kRecording}) & detail::kRecording) == 0) return {};
  Recording result;
  result.seconds = result.outside = seconds_of(now_ns() - all.begin_ns.load());
  std::map<std::string, Total> totals;
  for (const auto& log : all.logs) {
    const std::lock_guard log_lock(log->mutex);
    bring_up_to(*log, all.recording.load());
    for (const auto& [name, total] : log->totals) {
      Total& sum = totals[name];
      sum.calls += total.calls;
      sum.self_ns += total.self_ns;
    }
    result.events.insert(result.events.end(), log->events.begin(), log->events.end());
    result.events_left_out += log->events_left_out;
    if (log.get() == all.starter) result.outside -= seconds_of(log->covered_ns);
  }
  result.outside = std::max(0.0, result.outside);
  result.parts = parts_of(totals);
  return result;
}

std::string table(const Recording& recording, int64_t steps) {
  GATO_CHECK(steps >= 1, "a profile of ", steps, " steps");
  const auto count = static_cast<double>(steps);
  const double whole = std::max(recording.seconds, 1e-12);
  std::string text =
      padded("part", 40, false) + padded("calls", 9, true) + padded("ms", 12, true) + padded("%", 9, true) + "\n";
  const auto add = [&](const std::string& name, const std::string& calls, double seconds) {
    text += table_line(name, calls, 1000 * seconds / count, seconds / whole);
  };
  for (const Part& part : recording.parts) {
    add(part.name, format_fixed(static_cast<double>(part.calls) / count, 1), part.seconds);
  }
  add("(outside of all parts)", "", recording.outside);
  add("whole step", "", recording.seconds);
  return text;
}

void write_chrome_trace(const Recording& recording, const Path& path) {
  // Strings by hand: a tree of a million events would take a gigabyte.
  std::string text = "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[";
  const char* separator = "\n";
  for (const Event& event : recording.events) {
    const auto microseconds = [](int64_t ns) { return format_fixed(static_cast<double>(ns) / 1000, 3); };
    text += separator;
    text += "{\"ph\":\"X\",\"pid\":0,\"tid\":" + std::to_string(event.thread) +
            ",\"ts\":" + microseconds(event.begin_ns) + ",\"dur\":" + microseconds(event.end_ns - event.begin_ns) +
            ",\"name\":" + nlohmann::json(event.name).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) +
            "}";
    separator = ",\n";
  }
  write_file_atomic(path, text + "\n]}\n");
}

}  // namespace gato::profile
