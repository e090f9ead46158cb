#pragma once
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "gato/core/file.h"

/// Where the time goes. Code marks its parts with scopes; a recording adds them up and can be looked at as a trace, and
/// a profiler outside may be told of them. While nobody listens a scope costs one load and one branch. Any thread may
/// have scopes.
namespace gato::profile {

namespace detail {
/// Who listens to scopes: any of these.
enum : unsigned { kRecording = 1, kRangeHooks = 2 };
inline std::atomic<unsigned> g_listeners{0};
void enter(const char* name, unsigned listeners);
void leave(unsigned listeners);
}  // namespace detail

[[nodiscard]] inline bool recording() {
  return (detail::g_listeners.load(std::memory_order_relaxed) & detail::kRecording) != 0;
}

/// How another profiler (NVTX, of NVIDIA's tools) is told of scopes: `enter` and `leave` are called in pairs, nested,
/// by the thread whose scope it is; names live as long as the process. Both null: nobody is told.
struct RangeHooks {
  void (*enter)(const char* name) = nullptr;
  void (*leave)() = nullptr;
};
/// Tells `hooks` of scopes from now on; of those that are open already it hears nothing. Call before other threads have
/// scopes, or when they have none open.
void set_range_hooks(const RangeHooks& hooks);

/// A copy of `name` that lives as long as the process, the same pointer for the same text. Takes a lock: for set-up.
[[nodiscard]] const char* intern(std::string_view name);

/// The part `name` of the calling thread's work, from construction to destruction; scopes of a thread nest. `name` must
/// live as long as the process: a literal, or what intern() gave.
class Scope {
 public:
  explicit Scope(const char* name) : listeners_(detail::g_listeners.load(std::memory_order_relaxed)) {
    if (listeners_ != 0) detail::enter(name, listeners_);
  }
  /// The part `name` followed by `suffix`.
  Scope(const char* name, const char* suffix) : listeners_(detail::g_listeners.load(std::memory_order_relaxed)) {
    if (listeners_ != 0) detail::enter(intern(std::string(name) + suffix), listeners_);
  }
  ~Scope() {
    if (listeners_ != 0) detail::leave(listeners_);
  }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  unsigned listeners_;  // who was told of the beginning and hears of the end
};

/// One name of a recording, over all threads.
struct Part {
  std::string name;
  int64_t calls = 0;
  double seconds = 0;  ///< Inside its scopes, without those nested in them.
};

/// One scope that was left.
struct Event {
  const char* name;
  int64_t thread;            ///< 0, 1, ... in the order in which threads had their first scope.
  int64_t begin_ns, end_ns;  ///< Since the recording began.
};

struct Recording {
  double seconds = 0;           ///< From start() to stop().
  double outside = 0;           ///< Seconds in which the thread that called start() was in no scope.
  std::vector<Part> parts;      ///< Longest first.
  std::vector<Event> events;    ///< By thread, in the order in which they ended.
  int64_t events_left_out = 0;  ///< Beyond kMaxEvents; `parts` has them.
};
constexpr int64_t kMaxEvents = int64_t{1} << 20;  ///< Per thread: 32 MiB.

/// Forgets what was recorded and records from now on. Scopes that are open on this or another thread do not count.
void start();

/// Ends the recording and returns it. Scopes that are still open are left out. Empty when there was no start().
[[nodiscard]] Recording stop();

/// A table for people: calls, milliseconds and share of every part, for one of the `steps` (>= 1) steps recorded.
[[nodiscard]] std::string table(const Recording& recording, int64_t steps);

/// Writes the events as JSON that chrome://tracing and Perfetto open. Atomic, like write_file_atomic.
void write_chrome_trace(const Recording& recording, const Path& path);

}  // namespace gato::profile
