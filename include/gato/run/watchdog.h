#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>

/// Notices a training thread that no longer comes on.
namespace gato::run {

struct WatchdogOptions {
  double step_seconds = 60;      ///< The least that a step may take,
  double step_factor = 10;       ///< and this times the median of the last steps: the greater of both counts.
  double long_seconds = 1800;    ///< For what may take long: start, first step, validation, saving.
  double exchange_seconds = 75;  ///< For waiting for other processes, which has a limit of its own that comes first.
};

/// What stood still.
struct Expiry {
  std::string activity;
  double seconds = 0;  ///< How long it has been at it,
  double limit = 0;    ///< and how long it might have been.
};

/// Watches one thread from a thread of its own. The watched thread says what it does; when it says nothing new for
/// longer than the activity may take, `expired` is called on the watchdog's thread: it ends the process, or returns
/// whether the activity may take as long once more; if not, the watchdog falls silent. Time in which the whole process
/// stood still (SIGSTOP, a sleeping machine) does not count. Thread-safe.
class Watchdog {
 public:
  /// kLongExchange: waiting for others that may have long work to do, looked at as often as a usual exchange.
  enum class Limit { kStep, kLong, kExchange, kLongExchange, kNone };
  Watchdog(WatchdogOptions options, std::function<bool(const Expiry&)> expired);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  /// What the watched thread does from now on.
  void enter(std::string_view activity, Limit limit);
  /// A step that took `seconds` is done: the basis of later steps' limits.
  void add_step(double seconds);
  [[nodiscard]] double step_limit() const;  ///< Seconds that a step may take now.

 private:
  struct Shared;
  std::unique_ptr<Shared> shared_;
};

}  // namespace gato::run
