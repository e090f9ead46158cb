#include "gato/core/threads.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/excerpt.h"

namespace gato {
namespace {

constexpr int kMostThreads = 4096;

std::atomic<int> g_budget{0};                 // what set_thread_budget said, 0 for the default
thread_local bool t_inside_parallel = false;  // whether this thread runs a body of parallel_for

/// Processors in this process's affinity mask.
int allowed_processors() {
  for (size_t processors = 1024; processors <= (size_t{1} << 20); processors *= 4) {
    cpu_set_t* set = CPU_ALLOC(processors);
    if (set == nullptr) break;
    const size_t bytes = CPU_ALLOC_SIZE(processors);
    const bool known = sched_getaffinity(0, bytes, set) == 0;
    const int count = known ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (known) return std::max(1, count);
  }
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

/// GATO_NUM_THREADS, 0 when it is not set.
int threads_from_environment() {
  const char* setting = std::getenv("GATO_NUM_THREADS");
  if (setting == nullptr || *setting == '\0') return 0;
  const std::string_view text(setting);
  int threads = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), threads);
  if (result.ec != std::errc{} || result.ptr != text.data() + text.size() || threads < 1 || threads > kMostThreads) {
    throw ConfigError(cat("GATO_NUM_THREADS must be a whole number from 1 to ", kMostThreads, ", got \"", excerpt(text),
                          "\"; correct it or unset it"));
  }
  return threads;
}

/// The work shared by the threads of one parallel_for.
class ParallelLoop {
 public:
  ParallelLoop(int64_t count, const std::function<void(int64_t)>& body) : count_(count), body_(body) {}

  void work() {
    t_inside_parallel = true;
    for (int64_t i = next_.fetch_add(1); i < count_ && !failed_.load(); i = next_.fetch_add(1)) {
      try {
        body_(i);
      } catch (...) {
        const std::lock_guard lock(mutex_);
        if (!error_) error_ = std::current_exception();
        failed_.store(true);
      }
    }
    t_inside_parallel = false;
  }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  const int64_t count_;
  const std::function<void(int64_t)>& body_;
  std::atomic<int64_t> next_{0};
  std::atomic<bool> failed_{false};
  std::mutex mutex_;
  std::exception_ptr error_;
};

}  // namespace

int thread_budget() {
  if (const int threads = threads_from_environment(); threads > 0) return threads;
  if (const int threads = g_budget.load(); threads > 0) return threads;
  return allowed_processors();
}

void set_thread_budget(int threads) {
  GATO_CHECK(threads >= 0 && threads <= kMostThreads, "a thread budget is from 0 to ", kMostThreads, ", got ", threads);
  g_budget.store(threads);
}

void parallel_for(int64_t count, const std::function<void(int64_t)>& body, int threads) {
  GATO_CHECK(count >= 0 && threads >= 0, "parallel_for over ", count, " items on ", threads, " threads");
  const int64_t wanted = std::min<int64_t>(count, threads > 0 ? threads : thread_budget());
  if (wanted <= 1 || t_inside_parallel) {  // loops inside loops would multiply the budget
    for (int64_t i = 0; i < count; ++i) body(i);
    return;
  }
  ParallelLoop loop(count, body);
  std::vector<std::thread> helpers;
  helpers.reserve(static_cast<size_t>(wanted - 1));
  try {
    for (int64_t i = 1; i < wanted; ++i) helpers.emplace_back([&loop] { loop.work(); });
  } catch (const std::system_error&) {
    // The system gives no more threads: those that began, and this one, do the work.
  }
  loop.work();
  for (std::thread& helper : helpers) helper.join();
  loop.rethrow();
}

}  // namespace gato
