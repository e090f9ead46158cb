#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gato/core/injected_faults.h"
#include "gato/core/launch.h"
#include "gato/run/heartbeat.h"
#include "gato/run/progress_guard.h"
#include "gato/run/watchdog.h"
#include "gato/train/communicator.h"
#include "gato/train/config.h"
#include "stop_notice.h"

/// What keeps a run of one or many processes from hanging, from failing for ever, and from failing without a word
/// (docs/reliability.md).
namespace gato::train {

/// Watches one call of train() from its first line to its last. It is told what the training thread does, tells the
/// other processes through their heartbeats, ends the process with 76 when nothing comes on, and makes of any exception
/// the last word for log, heartbeat, failures.json and the launcher's error file. Observes the communicator.
class RunGuard : public OperationObserver {
 public:
  using Limit = run::Watchdog::Limit;

  RunGuard(const TrainingConfig& config, Launch launch);
  ~RunGuard() override;
  RunGuard(const RunGuard&) = delete;
  RunGuard& operator=(const RunGuard&) = delete;

  /// Runs `body`; what it throws is thrown again, with the culprit named where another process is to blame. Throws
  /// NoProgressError instead when the same step failed once too often.
  void watch(const std::function<void()>& body);

  /// Begins logs/rank-<n>.log and ranks/rank-<n>.json in the run folder. To be called by all processes at once, when
  /// rank 0 holds the folder's lock. `communicator` may be alone.
  void join(const std::shared_ptr<Communicator>& communicator, const Path& run_folder);
  /// The attempt's number, from which failures are counted and faults injected. Throws NoProgressError (rank 0).
  void begin_attempt(int64_t attempt);

  /// Training begins: from now on a stop signal is obeyed at the next step; before, one to any process ends all of them
  /// within seconds with 75, whatever they wait for, since there is nothing to save. Throws Interrupted where that is
  /// under way.
  void begin_training();
  /// To be opened with the store.
  [[nodiscard]] StopNotice& stop_notice() { return notice_; }
  void begin_step(int64_t step);  ///< From 1.
  void end_step();

  /// What the training thread does, for the scope's time.
  class Activity {
   public:
    Activity(RunGuard& guard, std::string_view name, Limit limit) : guard_(guard) { guard_.push(name, limit); }
    Activity(const Activity&) = delete;
    Activity& operator=(const Activity&) = delete;
    ~Activity() { guard_.pop(); }

   private:
    RunGuard& guard_;
  };

  /// Faults that are asked for at this place of the present step (core/injected_faults.h).
  [[nodiscard]] std::optional<FaultKind> strike(std::string_view where) const;

  void began(std::string_view operation) override;
  void ended(std::string_view operation) override;
  void failed(std::string_view operation, std::string_view cause) override;

 private:
  struct Phase {
    std::string name;
    Limit limit;
    bool is_exchange;
    double since;  ///< Seconds of a steady clock.
  };
  void push(std::string_view name, Limit limit, bool is_exchange = false);
  void pop();
  void tell(const Phase& phase);
  [[nodiscard]] bool expired(const run::Expiry& expiry);
  [[nodiscard]] bool may_wait_on();
  [[nodiscard]] bool is_training() const { return stage_ == Stage::kTraining; }
  void announce_stop();
  [[nodiscard]] std::string own_stop() const;
  [[nodiscard]] std::string stop_of_others();
  [[noreturn]] void stop_before_training(const std::string& why);
  [[nodiscard]] std::string blame(const std::string& failure, bool only_if_lost = false);
  void remember_stacks();
  void leave_together();
  void finish(run::RankEnd end, const std::string& message);
  void record(const std::function<void(run::ProgressGuard&)>& how);
  void count_failure(const std::string& message);

  const TrainingConfig& config_;
  Launch launch_;
  std::atomic<int64_t> step_{0};
  enum class Stage { kStarting, kStopping, kTraining };
  std::atomic<Stage> stage_{Stage::kStarting};
  std::atomic<bool> has_stepped_{false};
  StopNotice notice_;
  double step_began_ = 0;  // seconds of a steady clock
  InjectedFaults faults_;
  std::shared_ptr<Communicator> communicator_;
  std::mutex mutex_;  // of all below
  std::vector<Phase> phases_;
  std::string stacks_;   // of the first failure
  std::string failure_;  // with the culprit; of the training thread
  std::unique_ptr<run::Heartbeat> heartbeat_;
  std::unique_ptr<run::ProgressGuard> progress_;
  std::unique_ptr<run::Watchdog> watchdog_;
  struct StopWatcher;
  std::unique_ptr<StopWatcher> stop_watcher_;
};

}  // namespace gato::train
