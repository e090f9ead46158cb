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
  int64_t beat = 0;      ///< Grows while it lives: who stands still is told by it, not by clocks.
  int64_t progress = 0;  ///< Grows while it comes on: with every step that its environments take, and when it is idle.
  std::string doing;     ///< For people.
  bool operator==(const WorkerState&) const = default;
};
[[nodiscard]] std::string to_json(const WorkerState& state);
/// Strict; DataError naming `origin` and the key.
[[nodiscard]] WorkerState parse_worker_state(std::string_view json, const std::string& origin);
/// All workers that have a file, by name. Damaged files are left out.
[[nodiscard]] std::vector<WorkerState> read_workers(const RunFolder& folder);

/// What the process `id` of this machine says of itself as a worker; nothing when it is none (yet).
[[nodiscard]] std::optional<WorkerState> worker_of_process(const RunFolder& folder, int64_t id);

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
  void advance();  ///< It came on. Cheap: for every step.

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

/// Tells workers that are gone from those that work. A worker is gone when its process is, where this machine can see
/// that; when its beat has stood still for `lease_seconds` of this process's own clock; and when it lives but has not
/// come on for `stall_seconds` (it hangs: its job is better done by another). One thread.
class LeaseWatch {
 public:
  /// `now`: seconds of a steady clock.
  LeaseWatch(const RunFolder& folder, double lease_seconds, double stall_seconds, std::function<double()> now = {});
  /// Why the worker counts as gone; nothing while it works or that is not known yet.
  [[nodiscard]] std::optional<std::string> gone(const std::string& worker);
  /// Removes the files of workers that live no more, except those in `needed`.
  void remove_gone(const std::set<std::string>& needed);

 private:
  struct Seen {
    int64_t beat = 0, progress = 0;
    double beat_since = 0, progress_since = 0;
  };
  /// Why its process counts as ended. Takes note of what it says of itself.
  std::optional<std::string> silent(const std::string& worker);
  Path workers_;
  double lease_seconds_, stall_seconds_;
  std::function<double()> now_;
  std::map<std::string, Seen> seen_;
};

/// Plays a job. May be called for several checkpoints in turn; keeps what it loaded. Calls `is_wanted` from one thread
/// at a time and often, at best with every step: each call says that it comes on. Throws Interrupted when it was asked
/// to stop or `is_wanted` says no, anything else when the job cannot be done.
using JobRunner = std::function<std::vector<TaskResult>(const JobBatch& batch, const Job& job,
                                                        const std::function<bool()>& is_wanted)>;

struct WorkOptions {
  double lease_seconds = 120;  ///< How long a worker may show no life. Above what network shares cache, about 60 s.
  double stall_seconds = 900;  ///< How long one that lives may not come on: above what loading a model takes.
  double poll_seconds = 2;     ///< Between looks at an empty queue.
  double refail_seconds = 60;  ///< How long a worker leaves alone a job that failed in its hands.
  bool drain = false;          ///< Ends when there is nothing to do, even if training goes on.
  int64_t max_jobs = 0;        ///< Ends after as many; 0: no limit.
  std::function<bool()> is_stopped = {};  ///< Polled; default: stop_requested().
};

/// Why a worker ended.
enum class WorkEnd : uint8_t { kStopped, kDrained, kMaxJobs };

struct WorkOutcome {
  int64_t done = 0, failed = 0;  ///< Attempts.
  int64_t left_undone = 0;       ///< Jobs that failed here and that nobody had done when this worker ended.
  WorkEnd end = WorkEnd::kStopped;
};

/// Takes jobs from the run's queue and does them until stopped, or until the run is finished and no job is left.
/// Publishes results, closes batches that are finished (table, scores.jsonl, TensorBoard), and gives back a job when
/// stopped. A job may be played twice where a worker was thought gone; its result is there once. What fails of a job,
/// a batch or a result costs that alone and is said in the log. Throws IoError when the run folder fails.
WorkOutcome work(const RunFolder& folder, const JobRunner& runner, const WorkOptions& options);

/// Table, score line and TensorBoard events of a finished batch, then closes it. Done jobs whose results are missing,
/// cannot be read or are of something else are given back for another try, as `who`. False when it is not finished, or
/// not any more. Throws IoError.
bool finish_batch(EvaluationQueue& queue, QueuedBatch& batch, const std::string& who);

}  // namespace gato::run
