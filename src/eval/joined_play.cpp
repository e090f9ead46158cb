#include "joined_play.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>

#include "gato/core/error.h"

namespace gato::eval {
namespace {

using episode::StepValues;

/// Where the tasks' threads hand in observations and the caller's thread hands out actions.
class Meeting {
 public:
  Meeting(env::Policy& policy, size_t tasks) : policy_(policy), requests_(tasks), playing_(tasks) {}

  void begin_episode(int slot, uint64_t seed) {
    const std::lock_guard lock(mutex_);
    policy_.begin_episode(slot, seed);
  }

  /// Called by a task's thread: waits for its actions.
  std::vector<StepValues> act(size_t task, std::vector<int> slots, std::vector<StepValues> observations) {
    std::unique_lock lock(mutex_);
    Request& request = requests_[task].emplace(Request{std::move(slots), std::move(observations), {}, false});
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return request.is_answered || error_; });
    if (!request.is_answered) throw Interrupted("another task that is played together with this one failed");
    std::vector<StepValues> actions = std::move(request.actions);
    requests_[task].reset();
    return actions;
  }

  /// Called by a task's thread when it ends, with what it threw.
  void leave(std::exception_ptr error) {
    const std::lock_guard lock(mutex_);
    --playing_;
    if (error && !error_) error_ = std::move(error);
    changed_.notify_all();
  }

  /// Called by the caller's thread: acts until no task plays; an exception of the policy ends all.
  void serve() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return error_ || playing_ == 0 || waiting_ == playing_; });
      if (error_ || playing_ == 0) return;
      try {
        answer();
      } catch (...) {
        error_ = std::current_exception();
      }
      waiting_ = 0;
      changed_.notify_all();
    }
  }

  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  struct Request {
    std::vector<int> slots;
    std::vector<StepValues> observations, actions;
    bool is_answered = false;
  };

  void answer() {
    std::vector<int> slots;
    std::vector<StepValues> observations;
    for (const auto& request : requests_) {
      if (!request) continue;
      slots.insert(slots.end(), request->slots.begin(), request->slots.end());
      observations.insert(observations.end(), request->observations.begin(), request->observations.end());
    }
    std::vector<StepValues> actions = policy_.act(slots, observations);
    GATO_CHECK(actions.size() == slots.size(), "the policy gave ", actions.size(), " actions for ", slots.size());
    auto next = actions.begin();
    for (auto& request : requests_) {
      if (!request) continue;
      const auto count = static_cast<std::ptrdiff_t>(request->slots.size());
      request->actions.assign(std::make_move_iterator(next), std::make_move_iterator(next + count));
      request->is_answered = true;
      next += count;
    }
  }

  env::Policy& policy_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::optional<Request>> requests_;
  size_t playing_, waiting_ = 0;
  std::exception_ptr error_;
};

/// The policy as one task sees it: its slots are counted from 0.
class TaskPolicy : public env::Policy {
 public:
  TaskPolicy(Meeting& meeting, size_t task, int first_slot) : meeting_(meeting), task_(task), first_slot_(first_slot) {}
  void begin_episode(int slot, uint64_t seed) override { meeting_.begin_episode(first_slot_ + slot, seed); }
  std::vector<StepValues> act(std::span<const int> slots, std::span<const StepValues> observations) override {
    std::vector<int> all(slots.begin(), slots.end());
    for (int& slot : all) slot += first_slot_;
    return meeting_.act(task_, std::move(all), {observations.begin(), observations.end()});
  }

 private:
  Meeting& meeting_;
  size_t task_;
  int first_slot_;
};

}  // namespace

std::vector<std::vector<env::RolloutResult>> play_joined(std::vector<JoinedTask>& tasks, env::Policy& policy) {
  std::vector<std::vector<env::RolloutResult>> results(tasks.size());
  if (tasks.size() == 1) {
    results[0] = env::roll_out(*tasks[0].batch, policy, tasks[0].options);
    return results;
  }
  Meeting meeting(policy, tasks.size());
  std::vector<std::thread> threads;
  int first_slot = 0;
  for (size_t t = 0; t < tasks.size(); ++t) {
    threads.emplace_back([&, t, first_slot] {
      std::exception_ptr error;
      try {
        TaskPolicy own(meeting, t, first_slot);
        results[t] = env::roll_out(*tasks[t].batch, own, tasks[t].options);
      } catch (...) {
        error = std::current_exception();
      }
      meeting.leave(error);
    });
    first_slot += tasks[t].batch->size();
  }
  meeting.serve();
  for (std::thread& thread : threads) thread.join();
  meeting.rethrow();
  return results;
}

}  // namespace gato::eval
