#pragma once
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "gato/core/file.h"

/// Where the time goes. Code marks its parts with scopes; a recording adds them up and can be looked at as a trace.
/// While nothing is recorded a scope costs one load and one branch. Any thread may have scopes.
namespace gato::profile {

namespace detail {
inline std::atomic<bool> g_recording{false};
void enter(const char* name);
void leave();
}  // namespace detail

[[nodiscard]] inline bool recording() { return detail::g_recording.load(std::memory_order_relaxed); }

/// A copy of `name` that lives as long as the process, the same pointer for the same text. Takes a lock: for set-up.
[[nodiscard]] const char* intern(std::string_view name);

/// The part `name` of the calling thread's work, from construction to destruction; scopes of a thread nest. `name` must
/// live as long as the process: a literal, or what intern() gave.
class Scope {
 public:
  explicit Scope(const char* name) : active_(recording()) {
    if (active_) detail::enter(name);
  }
  /// The part `name` followed by `suffix`.
  Scope(const char* name, const char* suffix) : active_(recording()) {
    if (active_) detail::enter(intern(std::string(name) + suffix));
  }
  ~Scope() {
    if (active_) detail::leave();
  }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  bool active_;
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
