#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "gato/run/evaluation_queue.h"
#include "gato/run/results.h"

/// The workers of an evaluation queue.
namespace gato::run {

/// What a worker says of itself: eval/queue/workers/<name>.json.
struct WorkerState {
  std::string name;
  std::string machine;  ///< Where `process` can be looked for.
  int64_t process = 0;
  uint64_t process_start = 0;
  int64_t beat = 0;   ///< Grows while it lives: who stands still is told by it, not by clocks.
  std::string doing;  ///< For people.
  bool operator==(const WorkerState&) const = default;
};
[[nodiscard]] std::string to_json(const WorkerState& state);
/// Strict; DataError naming `origin` and the key.
[[nodiscard]] WorkerState parse_worker_state(std::string_view json, const std::string& origin);
/// All workers that have a file, by name. Damaged files are left out.
[[nodiscard]] std::vector<WorkerState> read_workers(const RunFolder& folder);

/// Shows that this process lives, from a thread of its own, until destruction, which takes the file away. Thread-safe.
class WorkerPresence {
 public:
  /// Throws IoError when the first file cannot be written; later failures are logged.
  WorkerPresence(const RunFolder& folder, double beat_seconds);
  WorkerPresence(const WorkerPresence&) = delete;
  WorkerPresence& operator=(const WorkerPresence&) = delete;
  ~WorkerPresence();
  [[nodiscard]] const std::string& name() const;  ///< Unique to this object: host, process, random digits.
  void set_doing(const std::string& doing);

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

/// Tells workers that are gone from those that live. A worker is gone when its process is, where this machine can see
/// that; else when its beat has stood still for `lease_seconds` of this process's own clock. One thread.
class LeaseWatch {
 public:
  /// `now`: seconds of a steady clock.
  LeaseWatch(const RunFolder& folder, double lease_seconds, std::function<double()> now = {});
  /// Why the worker counts as gone; nothing while it lives or that is not known yet.
  [[nodiscard]] std::optional<std::string> gone(const std::string& worker);
  /// Removes the files of workers that are gone, except those in `needed`.
  void remove_gone(const std::set<std::string>& needed);

 private:
  struct Seen {
    int64_t beat = 0;
    double since = 0;
  };
  Path workers_;
  double lease_seconds_;
  std::function<double()> now_;
  std::map<std::string, Seen> seen_;
};

/// Plays a job. May be called for several checkpoints in turn; keeps what it loaded. Throws Interrupted when it was
/// asked to stop or `is_wanted` says no, anything else when the job cannot be done.
using JobRunner = std::function<std::vector<TaskResult>(const JobBatch& batch, const Job& job,
                                                        const std::function<bool()>& is_wanted)>;

struct WorkOptions {
  double lease_seconds = 120;  ///< How long a worker may show no life. Above what network shares cache, about 60 s.
  double poll_seconds = 2;     ///< Between looks at an empty queue.
  double refail_seconds = 60;  ///< How long a worker leaves alone a job that failed in its hands.
  bool drain = false;          ///< Ends when there is nothing to do, even if training goes on.
  int64_t max_jobs = 0;        ///< Ends after as many; 0: no limit.
  std::function<bool()> is_stopped = {};  ///< Polled; default: stop_requested().
};

struct WorkOutcome {
  int64_t done = 0, failed = 0;
  bool drained = false;  ///< Else it was stopped or did max_jobs.
};

/// Takes jobs from the run's queue and does them until stopped, or until the run is finished and no job is left.
/// Publishes results, closes batches that are finished (table, scores.jsonl, TensorBoard), and gives back a job when
/// stopped. A job may be played twice where a worker was thought gone; its result is there once. Throws IoError when
/// the run folder fails.
WorkOutcome work(const RunFolder& folder, const JobRunner& runner, const WorkOptions& options);

/// Table, score line and TensorBoard events of a finished batch, then closes it. False when it is not finished.
bool finish_batch(EvaluationQueue& queue, QueuedBatch& batch);

}  // namespace gato::run
