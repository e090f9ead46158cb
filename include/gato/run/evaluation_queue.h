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

#include "gato/run/evaluation_plan.h"

/// Evaluations that are to be done, are being done and were done, as files of a run folder that any number of processes
/// on any number of machines share (docs/formats/evaluation_queue.md). Files are only ever added, each by one link(2),
/// which a local disk and a network share carry out for one process alone: no locks, no clocks that must agree.
namespace gato::run {

/// Rollouts [first, first + rollouts) of a task, with the seeds that these numbers give.
struct JobPart {
  PlannedTask task;  ///< Its `rollouts` are those of this part; 0 for a text, which is judged by its loss.
  int64_t first = 0;
  int64_t shard = 0, num_shards = 1;
  [[nodiscard]] bool is_text() const { return task.rollouts == 0; }
  bool operator==(const JobPart&) const = default;
};

/// What one worker does at a time. Environments of all its parts share the model's forward passes, so that a job's
/// rollouts depend on nothing else that is played.
struct Job {
  std::vector<JobPart> parts;
  bool operator==(const Job&) const = default;
};

/// The jobs of one (checkpoint, suite).
struct JobBatch {
  std::string checkpoint;  ///< Folder name.
  int64_t step = 0;
  std::string suite;
  PlaySettings settings;
  std::vector<Job> jobs;
  bool operator==(const JobBatch&) const = default;
};

/// The jobs that a plan makes of a checkpoint and one of its suites.
[[nodiscard]] JobBatch make_batch(const EvaluationPlan& plan, const PlannedSuite& suite, int64_t step);

[[nodiscard]] std::string to_json(const JobBatch& batch);
/// Strict; DataError naming `origin` and the key.
[[nodiscard]] JobBatch parse_job_batch(std::string_view json, const std::string& origin);

/// What happened to a job; the names in files are those here in lower case, without the k.
enum class JobEventKind : uint8_t {
  kClaimed,    ///< A worker does it.
  kDone,       ///< Its results are there.
  kFailed,     ///< The worker could not do it.
  kLost,       ///< The worker is gone or shows no life; said by another.
  kReturned,   ///< The worker gave it back because it was asked to end.
  kCancelled,  ///< A person does not want it any more.
  kRetried,    ///< A person wants it tried anew.
};

struct JobEvent {
  JobEventKind kind = JobEventKind::kClaimed;
  std::string worker;  ///< Who did it; for kLost who says so.
  std::string reason;
  double time = 0;  ///< Of the writer's clock, for people.
  bool operator==(const JobEvent&) const = default;
};
[[nodiscard]] std::string to_json(const JobEvent& event);
[[nodiscard]] JobEvent parse_job_event(std::string_view json, const std::string& origin);

enum class JobState : uint8_t { kPending, kRunning, kDone, kFailed, kCancelled };
[[nodiscard]] std::string_view job_state_name(JobState state);

/// What a job's events come to.
struct JobStatus {
  JobState state = JobState::kPending;
  int64_t attempts = 0;              ///< That failed or were lost, since the last retry.
  std::string worker;                ///< kRunning, kDone: who.
  std::vector<std::string> reasons;  ///< Why attempts failed, in order.
  bool operator==(const JobStatus&) const = default;
};
[[nodiscard]] JobStatus status_of(const std::vector<JobEvent>& events, int64_t max_attempts);

/// One batch of a queue, as last read. A batch whose folder was removed, or removed and queued anew, since it was read
/// has been replaced: it says and does nothing any more about what is there now, and all its jobs count as cancelled.
/// One thread.
class QueuedBatch {
 public:
  /// Reads the folder's jobs.json. DataError, IoError.
  explicit QueuedBatch(Path folder);
  QueuedBatch(const QueuedBatch&) = delete;
  QueuedBatch& operator=(const QueuedBatch&) = delete;
  ~QueuedBatch();

  [[nodiscard]] const Path& folder() const { return folder_; }
  [[nodiscard]] std::string name() const { return folder_.filename().string(); }  ///< step-00001000@SUITE
  [[nodiscard]] const JobBatch& batch() const { return batch_; }
  [[nodiscard]] const std::vector<JobEvent>& events(size_t job) const { return events_.at(job); }
  [[nodiscard]] JobStatus status(size_t job) const;
  [[nodiscard]] bool is_finished() const;  ///< No job is pending or running.
  [[nodiscard]] bool is_replaced();        ///< Looks at the folder, too.

  void refresh();            ///< Reads what was added since.
  void refresh(size_t job);  ///< Of one job.
  /// Adds an event behind those known. False when somebody was faster: then their event has been read; or when the
  /// batch was replaced.
  bool add(size_t job, const JobEvent& event);

 private:
  Path folder_;
  JobBatch batch_;
  std::vector<std::vector<JobEvent>> events_;
  struct Origin;
  std::unique_ptr<Origin> origin_;  // jobs.json as it was read
  bool is_replaced_ = false;
};

/// The queue of a run folder. One thread.
class EvaluationQueue {
 public:
  explicit EvaluationQueue(Path run);

  [[nodiscard]] const RunFolder& folder() const { return folder_; }

  /// Adds the jobs of a batch. False when the same (checkpoint, suite) is queued already, which stays as it is: a
  /// warning says so where it differs.
  bool enqueue(const JobBatch& batch);

  /// Reads what is new in all batches that are not closed, by rising (step, suite). A batch that cannot be read is told
  /// in a warning, once, and left out. The pointers hold until the next call of this or the next function.
  std::vector<QueuedBatch*> open_batches();
  /// All batches, closed ones included, freshly read.
  std::vector<QueuedBatch*> all_batches();

  /// Marks a finished batch as closed: from then on it is not looked at unless a job is retried. False when it is not
  /// finished.
  bool close(QueuedBatch& batch);

  /// Ends the job for good unless it is done; false when there was nothing to cancel.
  bool cancel(QueuedBatch& batch, size_t job, const std::string& who);
  /// Makes a failed or cancelled job pending again; false when it is neither.
  bool retry(QueuedBatch& batch, size_t job, const std::string& who);

 private:
  std::vector<QueuedBatch*> read(bool with_closed);

  RunFolder folder_;
  std::map<std::string, std::unique_ptr<QueuedBatch>> batches_;
  std::set<std::string> warned_;
};

/// Queues every checkpoint in the run folder that its plan says is to be evaluated and that is not queued yet; returns
/// how many batches it added. To be called after a checkpoint was published and when a trainer starts. Nothing happens
/// without a plan. Throws IoError, and DataError for a damaged plan.
int64_t enqueue_due(const RunFolder& folder);

/// The same for a trainer, which must not end by it: says in the log what was queued, or why it could not be.
void queue_evaluations(const RunFolder& folder) noexcept;

/// Steps of the checkpoints that jobs still need: those that are pending or running.
[[nodiscard]] std::set<int64_t> checkpoints_in_use(const RunFolder& folder);

}  // namespace gato::run
