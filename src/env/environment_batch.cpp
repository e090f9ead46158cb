#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>

#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/core/threads.h"
#include "gato/env/rollout.h"

namespace gato::env {

namespace {

/// Threads that stay alive between steps. begin() hands out the indices [0, count) of a piece of work; finish() helps
/// and returns when all are done, rethrowing the first exception. Used by one thread.
class WorkerPool {
 public:
  explicit WorkerPool(int workers) {
    for (int i = 0; i < workers; ++i) threads_.emplace_back([this] { serve(); });
  }
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  ~WorkerPool() {
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  void begin(int64_t count, std::function<void(int64_t)> body) {
    {
      const std::lock_guard lock(mutex_);
      body_ = std::move(body);
      count_ = count;
      next_ = 0;
      running_ = 0;
      error_ = nullptr;
    }
    if (count > 1) wake_.notify_all();
  }

  void finish() {
    std::unique_lock lock(mutex_);
    take_indices(lock);
    idle_.wait(lock, [this] { return running_ == 0; });
    count_ = 0;
    body_ = nullptr;
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

 private:
  void serve() {
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [this] { return closing_ || next_ < count_; });
      if (closing_) return;
      take_indices(lock);
    }
  }

  /// Works until no index is left; called with the lock held, which is released while the body runs.
  void take_indices(std::unique_lock<std::mutex>& lock) {
    while (next_ < count_) {
      const int64_t index = next_++;
      ++running_;
      lock.unlock();
      std::exception_ptr error;
      try {
        body_(index);
      } catch (...) {
        error = std::current_exception();
      }
      lock.lock();
      if (error && !error_) error_ = error;
      if (--running_ == 0) idle_.notify_all();
    }
  }

  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable wake_, idle_;
  std::function<void(int64_t)> body_;
  int64_t count_ = 0, next_ = 0, running_ = 0;
  std::exception_ptr error_;
  bool closing_ = false;
};

class NativeBatch final : public EnvironmentBatch {
 public:
  NativeBatch(const std::string& task, int size, int threads)
      : slots_(static_cast<size_t>(size)), pool_(std::min(size, threads) - 1) {
    for (Slot& slot : slots_) slot.environment = make_environment(task);
  }

  ~NativeBatch() override {
    if (!busy_) return;
    try {
      pool_.finish();
    } catch (...) {  // nobody asked for the results
    }
  }

  [[nodiscard]] const TaskSpec& spec() const override { return slots_.front().environment->spec(); }
  [[nodiscard]] int size() const override { return static_cast<int>(slots_.size()); }

  [[nodiscard]] StepValues reset(int slot, uint64_t seed) override {
    GATO_CHECK(!busy_, "reset between start and wait");
    Slot& place = at(slot);
    place.playing = false;
    StepValues observation = place.environment->reset(seed);
    place.playing = true;
    return observation;
  }

  void start(std::span<const int> slots, std::span<const StepValues> actions) override {
    GATO_CHECK(!busy_, "start was called twice without wait");
    GATO_CHECK(slots.size() == actions.size(), slots.size(), " slots and ", actions.size(), " actions");
    for (size_t i = 0; i < slots.size(); ++i) {
      GATO_CHECK(at(slots[i]).playing, "slot ", slots[i], " has no episode going on: reset it first");
      GATO_CHECK(std::find(slots.begin(), slots.begin() + static_cast<std::ptrdiff_t>(i), slots[i]) ==
                     slots.begin() + static_cast<std::ptrdiff_t>(i),
                 "slot ", slots[i], " is named twice");
    }
    stepping_.assign(slots.begin(), slots.end());
    actions_.assign(actions.begin(), actions.end());
    results_.assign(slots.size(), StepResult{});
    busy_ = true;
    pool_.begin(static_cast<int64_t>(slots.size()), [this](int64_t i) { step(static_cast<size_t>(i)); });
  }

  [[nodiscard]] std::vector<StepResult> wait() override {
    GATO_CHECK(busy_, "wait was called without start");
    busy_ = false;
    pool_.finish();
    return std::move(results_);
  }

  [[nodiscard]] std::optional<Image> frame(int slot) override {
    GATO_CHECK(!busy_, "frame between start and wait");
    return at(slot).environment->frame();
  }

  [[nodiscard]] std::optional<std::string> reference_answer(int slot) const override {
    GATO_CHECK(!busy_, "reference_answer between start and wait");
    GATO_CHECK(slot >= 0 && slot < size(), "slot ", slot, " of ", size());
    return slots_[static_cast<size_t>(slot)].environment->reference_answer();
  }

 private:
  struct Slot {
    std::unique_ptr<Environment> environment;
    bool playing = false;
  };

  Slot& at(int slot) {
    GATO_CHECK(slot >= 0 && slot < size(), "slot ", slot, " of ", size());
    return slots_[static_cast<size_t>(slot)];
  }

  void step(size_t i) {
    Slot& slot = slots_[static_cast<size_t>(stepping_[i])];
    results_[i] = slot.environment->step(actions_[i]);
    slot.playing = !results_[i].done();
  }

  std::vector<Slot> slots_;
  std::vector<int> stepping_;
  std::vector<StepValues> actions_;
  std::vector<StepResult> results_;
  bool busy_ = false;
  WorkerPool pool_;  // last: its threads use the members above
};

}  // namespace

std::unique_ptr<EnvironmentBatch> make_environment_batch(const std::string& task, int size, int threads) {
  if (size < 1)
    throw ConfigError(cat("A batch of environments of ", task, " needs a size of at least 1, got ", size, "."));
  if (threads < 0) throw ConfigError(cat("A batch of environments cannot use ", threads, " threads."));
  const int most = threads == 0 ? thread_budget() : threads;
  if (const TaskEntry& entry = find_task(task); entry.make_batch) return entry.make_batch(size, most);
  return std::make_unique<NativeBatch>(task, size, most);
}

}  // namespace gato::env
