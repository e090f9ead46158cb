#include "gato/run/evaluation_worker.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <set>
#include <thread>

#include "gato/checkpoint/checkpoint.h"
#include "gato/core/error.h"
#include "gato/core/excerpt.h"
#include "gato/core/log.h"
#include "gato/core/random.h"
#include "gato/core/signals.h"
#include "gato/core/text.h"
#include "run/clock.h"
#include "run/job_results.h"

namespace gato::run {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kBeatsPerLease = 6;
constexpr double kWantedSeconds = 5;     // between looks whether a job is still wanted
constexpr size_t kMaxReasonBytes = 600;  // of a failure, in its event

double seconds_since(Clock::time_point then) { return std::chrono::duration<double>(Clock::now() - then).count(); }

/// One call of work().
class Worker {
 public:
  Worker(const RunFolder& folder, const JobRunner& runner, const WorkOptions& options)
      : folder_(folder),
        runner_(runner),
        options_(options),
        queue_(folder.root()),
        presence_(folder, options.lease_seconds / kBeatsPerLease),
        watch_(folder, options.lease_seconds, options.stall_seconds) {
    if (!options_.is_stopped) options_.is_stopped = [] { return stop_requested(); };
  }

  WorkOutcome run() {
    log::info("eval", "worker ", presence_.name(), " waits for jobs of ", folder_.root().string());
    outcome_.end = work_on();
    outcome_.left_undone = left_undone();
    return outcome_;
  }

 private:
  using Place = std::pair<QueuedBatch*, size_t>;

  WorkEnd work_on() {
    while (!options_.is_stopped()) {
      presence_.advance();
      const bool is_last_look = options_.drain || is_run_finished();  // nothing comes after what is looked at below
      queue_what_is_due();
      if (step()) {
        if (options_.max_jobs > 0 && outcome_.done + outcome_.failed >= options_.max_jobs) return WorkEnd::kMaxJobs;
        continue;
      }
      if (!has_open_jobs_ && is_last_look && !options_.is_stopped()) return WorkEnd::kDrained;
      wait();
    }
    return WorkEnd::kStopped;
  }

  /// What a trainer could not queue any more.
  void queue_what_is_due() {
    try {
      enqueue_due(folder_);
    } catch (const DataError& error) {
      warn_once(cat("what is due cannot be queued: ", error.what()));
    }
  }

  /// For what every look at the queue would say again.
  void warn_once(const std::string& text) {
    if (told_.insert(text).second) log::warning("eval", text);
  }

  /// Looks after the queue, then does one job; false when there was none.
  bool step() {
    const std::vector<QueuedBatch*> batches = queue_.open_batches();
    has_open_jobs_ = false;
    std::set<std::string> busy;
    for (QueuedBatch* batch : batches) look_after(*batch, busy);
    watch_.remove_gone(busy);
    for (const Place& place : candidates(batches)) {
      if (options_.is_stopped()) return false;
      const JobEvent claim{JobEventKind::kClaimed, presence_.name(), "", seconds_since_1970()};
      try {
        if (place.first->status(place.second).state != JobState::kPending || !place.first->add(place.second, claim)) {
          continue;
        }
        do_job(*place.first, place.second);
        finish(*place.first);
      } catch (const DataError& error) {  // of the batch's own files
        warn_once(cat(place.first->name(), ": ", error.what()));
      }
      return true;
    }
    return false;
  }

  /// A batch that cannot be looked after is left for the next look, and holds up no other.
  void look_after(QueuedBatch& batch, std::set<std::string>& busy) {
    try {
      take_from_the_gone(batch, busy);
      finish(batch);
      has_open_jobs_ = has_open_jobs_ || !batch.is_finished();
    } catch (const DataError& error) {
      warn_once(cat(batch.name(), ": ", error.what()));
    }
  }

  void finish(QueuedBatch& batch) {
    if (batch.is_finished()) finish_batch(queue_, batch, presence_.name());
  }

  /// Adds those that still have a job to `busy`.
  void take_from_the_gone(QueuedBatch& batch, std::set<std::string>& busy) {
    for (size_t job = 0; job < batch.batch().jobs.size(); ++job) {
      const JobStatus status = batch.status(job);
      if (status.state != JobState::kRunning) continue;
      if (status.worker == presence_.name()) {  // whose end could not be noted: between jobs this worker plays nothing
        static_cast<void>(batch.add(job, {JobEventKind::kReturned, presence_.name(), "", seconds_since_1970()}));
        continue;
      }
      const auto reason = watch_.gone(status.worker);
      if (!reason) busy.insert(status.worker);
      if (!reason || !batch.add(job, {JobEventKind::kLost, presence_.name(), *reason, seconds_since_1970()})) continue;
      log::warning("eval", batch.name(), ", job ", job, ": ", *reason, "; it is tried again");
    }
  }

  /// Pending jobs: those of the checkpoint that is loaded, then by step; within a batch from a place that differs from
  /// worker to worker, so that they seldom meet.
  std::vector<Place> candidates(const std::vector<QueuedBatch*>& batches) {
    std::vector<Place> places;
    const auto add = [&](QueuedBatch* batch) {
      const size_t jobs = batch->batch().jobs.size();
      const size_t offset = jobs == 0 ? 0 : hash_name(presence_.name()) % jobs;
      for (size_t i = 0; i < jobs; ++i) {
        const size_t job = (i + offset) % jobs;
        if (batch->status(job).state == JobState::kPending && !failed_here(*batch, job))
          places.emplace_back(batch, job);
      }
    };
    for (const bool is_loaded : {true, false}) {
      for (QueuedBatch* batch : batches) {
        if ((batch->batch().step == loaded_step_) == is_loaded) add(batch);
      }
    }
    return places;
  }

  bool failed_here(const QueuedBatch& batch, size_t job) const {
    const auto failure = failures_.find({batch.name(), job});
    return failure != failures_.end() && seconds_since(failure->second) < options_.refail_seconds;
  }

  void do_job(QueuedBatch& batch, size_t job) {
    const std::string what = cat(batch.name(), ", job ", job);
    presence_.set_doing(what);
    loaded_step_ = batch.batch().step;
    try {
      play(batch, job);
      settle(batch, job, JobEventKind::kDone, "");
      ++outcome_.done;
    } catch (const Interrupted&) {
      settle(batch, job, JobEventKind::kReturned, "");
    } catch (const IoError&) {
      throw;  // of the run folder itself: the lease says the rest
    } catch (const std::exception& error) {
      log::error("eval", what, ": ", error.what());
      settle(batch, job, JobEventKind::kFailed, excerpt(error.what(), kMaxReasonBytes));
      failures_[{batch.name(), job}] = Clock::now();
      ++outcome_.failed;
    }
    presence_.set_doing("nothing");
  }

  void play(QueuedBatch& batch, size_t number) {
    const JobBatch& jobs = batch.batch();
    const Job& job = jobs.jobs[number];
    const Path results = folder_.results_path(jobs.step, jobs.suite);
    make_folders(results);
    const auto is_there = [&](const JobPart& part) { return has_result(results, jobs, job, part); };
    if (std::all_of(job.parts.begin(), job.parts.end(), is_there)) return;
    Clock::time_point looked = Clock::now();
    bool wanted = true;
    const auto is_wanted = [&] {
      presence_.advance();
      if (options_.is_stopped()) return false;
      if (seconds_since(looked) < kWantedSeconds) return wanted;
      looked = Clock::now();
      batch.refresh(number);
      return wanted = is_ours_or_nobodys(batch.status(number));
    };
    for (const TaskResult& result : results_from_runner(jobs, job, is_wanted)) {
      const auto matches = [&](const JobPart& part) { return is_result_of(result, jobs, job, part); };
      GATO_CHECK(std::any_of(job.parts.begin(), job.parts.end(), matches), "a result of ", result.task,
                 " that the job does not ask for");
      static_cast<void>(write_result_once(results, result));
    }
  }

  /// What the runner cannot read or start (a checkpoint, an environment) is the job's failure, not the run folder's.
  std::vector<TaskResult> results_from_runner(const JobBatch& batch, const Job& job,
                                              const std::function<bool()>& is_wanted) {
    try {
      return runner_(batch, job, is_wanted);
    } catch (const IoError& error) {
      throw Error(error.what());
    }
  }

  [[nodiscard]] bool is_ours_or_nobodys(const JobStatus& status) const {
    return status.state == JobState::kPending ||
           (status.state == JobState::kRunning && status.worker == presence_.name());
  }

  /// Adds the end of what this worker did, unless that is another's by now. Results are there whoever says so.
  void settle(QueuedBatch& batch, size_t job, JobEventKind kind, const std::string& reason) {
    while (true) {
      const JobStatus status = batch.status(job);
      const bool is_ours = status.state == JobState::kRunning && status.worker == presence_.name();
      const bool may_be_done =
          status.state == JobState::kPending || status.state == JobState::kRunning || status.state == JobState::kFailed;
      if (kind == JobEventKind::kDone ? !may_be_done : !is_ours) return;
      if (batch.add(job, {kind, presence_.name(), reason, seconds_since_1970()})) return;
    }
  }

  [[nodiscard]] bool is_run_finished() {
    std::optional<EvaluationPlan> plan;
    try {
      plan = read_plan(folder_);
    } catch (const DataError& error) {
      warn_once(cat("when the run is finished cannot be told: ", error.what()));
    }
    return plan && plan->last_step > 0 &&
           std::filesystem::exists(folder_.checkpoints_path() / checkpoint::step_name(plan->last_step) /
                                   checkpoint::kManifestName);
  }

  /// Of those that failed here.
  int64_t left_undone() {
    if (failures_.empty()) return 0;
    int64_t jobs = 0;
    for (QueuedBatch* batch : queue_.all_batches()) {
      for (size_t job = 0; job < batch->batch().jobs.size(); ++job) {
        jobs += failures_.contains({batch->name(), job}) && batch->status(job).state != JobState::kDone ? 1 : 0;
      }
    }
    return jobs;
  }

  void wait() const {
    const auto begin = Clock::now();
    while (!options_.is_stopped() && seconds_since(begin) < options_.poll_seconds) {
      std::this_thread::sleep_for(std::chrono::duration<double>(std::min(0.1, options_.poll_seconds)));
    }
  }

  const RunFolder& folder_;
  const JobRunner& runner_;
  WorkOptions options_;
  EvaluationQueue queue_;
  WorkerPresence presence_;
  LeaseWatch watch_;
  WorkOutcome outcome_;
  bool has_open_jobs_ = false;
  int64_t loaded_step_ = -1;
  std::map<std::pair<std::string, size_t>, Clock::time_point> failures_;
  std::set<std::string> told_;
};

}  // namespace

WorkOutcome work(const RunFolder& folder, const JobRunner& runner, const WorkOptions& options) {
  return Worker(folder, runner, options).run();
}

}  // namespace gato::run
