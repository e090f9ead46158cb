#include "gato/run/watchdog.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "gato/core/error.h"

namespace gato::run {

struct Watchdog::Shared {
  WatchdogOptions options;
  std::function<bool(const Expiry&)> expired;
  mutable std::mutex mutex;
  std::condition_variable changed;
  std::string activity = "starting";
  Limit limit = Limit::kLong;
  double seconds = 0;  // that the activity has taken, counted in beats of the watchdog
  std::vector<double> steps;
  size_t next_step = 0;  // in `steps`, a ring
  bool stop = false;
  std::thread thread;

  [[nodiscard]] double step_limit() const {
    if (steps.empty()) return options.long_seconds;  // the first step prepares much that later ones find
    std::vector<double> sorted = steps;
    const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
    std::nth_element(sorted.begin(), middle, sorted.end());
    return std::max(options.step_seconds, options.step_factor * *middle);
  }

  /// Seconds that the present activity may take; 0 for ever.
  [[nodiscard]] double present_limit() const {
    switch (limit) {
      case Limit::kStep:
        return step_limit();
      case Limit::kLong:
        return options.long_seconds;
      case Limit::kExchange:
        return std::max(options.exchange_seconds, steps.empty() ? options.exchange_seconds : step_limit());
      case Limit::kLongExchange:
        return options.exchange_seconds;
      case Limit::kNone:
        break;
    }
    return 0;
  }

  /// Counts time in short pieces: a piece that took much longer than it should was not this process's time.
  void loop() {
    constexpr auto kBeat = std::chrono::milliseconds(100);
    constexpr double kLongestBeat = 1;
    auto last = std::chrono::steady_clock::now();
    std::unique_lock lock(mutex);
    while (!stop) {
      changed.wait_for(lock, kBeat);
      const auto now = std::chrono::steady_clock::now();
      seconds += std::min(kLongestBeat, std::chrono::duration<double>(now - last).count());
      last = now;
      const double most = present_limit();
      if (most <= 0 || seconds <= most) continue;
      const Expiry expiry{activity, seconds, most};
      lock.unlock();
      const bool goes_on = expired(expiry);
      lock.lock();
      if (!goes_on) return;
      seconds = 0;
      last = std::chrono::steady_clock::now();
    }
  }
};

Watchdog::Watchdog(WatchdogOptions options, std::function<bool(const Expiry&)> expired)
    : shared_(std::make_unique<Shared>()) {
  GATO_CHECK(
      options.step_seconds > 0 && options.step_factor >= 1 && options.long_seconds > 0 && options.exchange_seconds > 0,
      "limits of a watchdog are positive");
  shared_->options = options;
  shared_->expired = std::move(expired);
  shared_->thread = std::thread([this] {
    ::pthread_setname_np(::pthread_self(), "watchdog");
    shared_->loop();
  });
}

Watchdog::~Watchdog() {
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->stop = true;
  }
  shared_->changed.notify_all();
  shared_->thread.join();
}

void Watchdog::enter(std::string_view activity, Limit limit) {
  const std::lock_guard lock(shared_->mutex);
  shared_->activity = activity;
  shared_->limit = limit;
  shared_->seconds = 0;
}

void Watchdog::add_step(double seconds) {
  constexpr size_t kRemembered = 101;
  const std::lock_guard lock(shared_->mutex);
  if (shared_->steps.size() < kRemembered) {
    shared_->steps.push_back(seconds);
    return;
  }
  shared_->steps[shared_->next_step] = seconds;
  shared_->next_step = (shared_->next_step + 1) % kRemembered;
}

double Watchdog::step_limit() const {
  const std::lock_guard lock(shared_->mutex);
  return shared_->step_limit();
}

}  // namespace gato::run
