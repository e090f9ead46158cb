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
#include "gato/run/tensorboard.h"
#include "run/clock.h"

namespace gato::run {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kBeatsPerLease = 6;
constexpr double kWantedSeconds = 5;     // between looks whether a job is still wanted
constexpr size_t kMaxReasonBytes = 600;  // of a failure, in its event

double seconds_since(Clock::time_point then) { return std::chrono::duration<double>(Clock::now() - then).count(); }

/// Whether a result is what the job's part asks for.
bool is_result_of(const TaskResult& result, const JobBatch& batch, const JobPart& part) {
  return result.task == part.task.task && result.checkpoint == batch.checkpoint && result.suite == batch.suite &&
         result.shard == part.shard && result.num_shards == part.num_shards &&
         static_cast<int64_t>(result.rollouts.size()) == part.task.rollouts &&
         (part.is_text() ||
          (result.decoding.rule == part.task.rule && result.decoding.prompt == batch.settings.prompt));
}

bool has_result(const Path& results, const JobBatch& batch, const JobPart& part) {
  const Path file = results / result_file_name(part.task.task, part.shard);
  if (!std::filesystem::exists(file)) return false;
  try {
    return is_result_of(parse_task_result(read_file(file), file.string()), batch, part);
  } catch (const DataError&) {
    return false;
  }
}

/// One call of work().
class Worker {
 public:
  Worker(const RunFolder& folder, const JobRunner& runner, const WorkOptions& options)
      : folder_(folder),
        runner_(runner),
        options_(options),
        queue_(folder.root()),
        presence_(folder, options.lease_seconds / kBeatsPerLease),
        watch_(folder, options.lease_seconds) {
    if (!options_.is_stopped) options_.is_stopped = [] { return stop_requested(); };
  }

  WorkOutcome run() {
    log::info("eval", "worker ", presence_.name(), " waits for jobs of ", folder_.root().string());
    while (!options_.is_stopped()) {
      const bool is_last_look = options_.drain || is_run_finished();  // nothing comes after what is looked at below
      enqueue_due(folder_);                                           // what a trainer could not queue any more
      if (step()) {
        if (options_.max_jobs > 0 && outcome_.done + outcome_.failed >= options_.max_jobs) return outcome_;
        continue;
      }
      if (has_open_jobs_) {
        wait();
        continue;
      }
      if (is_last_look) {
        outcome_.drained = true;
        return outcome_;
      }
      wait();
    }
    return outcome_;
  }

 private:
  using Place = std::pair<QueuedBatch*, size_t>;

  /// Looks after the queue, then does one job; false when there was none.
  bool step() {
    const std::vector<QueuedBatch*> batches = queue_.open_batches();
    has_open_jobs_ = false;
    std::set<std::string> busy;
    for (QueuedBatch* batch : batches) {
      take_from_the_gone(*batch, busy);
      if (batch->is_finished()) {
        finish_batch(queue_, *batch);
      } else {
        has_open_jobs_ = true;
      }
    }
    watch_.remove_gone(busy);
    for (const Place& place : candidates(batches)) {
      if (options_.is_stopped()) return false;
      const JobEvent claim{JobEventKind::kClaimed, presence_.name(), "", seconds_since_1970()};
      if (place.first->status(place.second).state != JobState::kPending || !place.first->add(place.second, claim)) {
        continue;
      }
      do_job(*place.first, place.second);
      return true;
    }
    return false;
  }

  /// Adds those that still have a job to `busy`.
  void take_from_the_gone(QueuedBatch& batch, std::set<std::string>& busy) {
    for (size_t job = 0; job < batch.batch().jobs.size(); ++job) {
      const JobStatus status = batch.status(job);
      if (status.state != JobState::kRunning || status.worker == presence_.name()) continue;
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
      throw;  // the run folder's disk, most likely: the lease says the rest
    } catch (const std::exception& error) {
      log::error("eval", what, ": ", error.what());
      settle(batch, job, JobEventKind::kFailed, excerpt(error.what(), kMaxReasonBytes));
      failures_[{batch.name(), job}] = Clock::now();
      ++outcome_.failed;
    }
    presence_.set_doing("nothing");
    if (batch.is_finished()) finish_batch(queue_, batch);
  }

  void play(QueuedBatch& batch, size_t number) {
    const JobBatch& jobs = batch.batch();
    const Job& job = jobs.jobs[number];
    const Path results = folder_.results_path(jobs.step, jobs.suite);
    make_folders(results);
    const auto is_there = [&](const JobPart& part) { return has_result(results, jobs, part); };
    if (std::all_of(job.parts.begin(), job.parts.end(), is_there)) return;
    Clock::time_point looked = Clock::now();
    bool wanted = true;
    const auto is_wanted = [&] {
      if (options_.is_stopped()) return false;
      if (seconds_since(looked) < kWantedSeconds) return wanted;
      looked = Clock::now();
      batch.refresh(number);
      return wanted = is_ours_or_nobodys(batch.status(number));
    };
    for (const TaskResult& result : runner_(jobs, job, is_wanted)) {
      const auto matches = [&](const JobPart& part) { return is_result_of(result, jobs, part); };
      GATO_CHECK(std::any_of(job.parts.begin(), job.parts.end(), matches), "a result of ", result.task,
                 " that the job does not ask for");
      static_cast<void>(write_result_once(results, result));
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

  [[nodiscard]] bool is_run_finished() const {
    const auto plan = read_plan(folder_);
    return plan && plan->last_step > 0 &&
           std::filesystem::exists(folder_.checkpoints_path() / checkpoint::step_name(plan->last_step) /
                                   checkpoint::kManifestName);
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
};

/// The results in the folder that are the batch's own: others may lie there from an evaluation divided otherwise.
std::vector<TaskResult> results_of(const RunFolder& folder, const JobBatch& batch) {
  const Path path = folder.results_path(batch.step, batch.suite);
  if (!std::filesystem::is_directory(path)) return {};
  std::map<std::pair<std::string, int64_t>, const JobPart*> parts;
  for (const Job& job : batch.jobs) {
    for (const JobPart& part : job.parts) parts[{part.task.task, part.shard}] = &part;
  }
  std::vector<TaskResult> results = read_results(path);
  std::erase_if(results, [&](const TaskResult& result) {
    const auto part = parts.find({result.task, result.shard});
    return part == parts.end() || !is_result_of(result, batch, *part->second);
  });
  return results;
}

bool is_recorded(const RunFolder& folder, const Summary& summary) {
  const std::vector<ScoreLine> lines = read_scores(folder.scores_path());
  return std::any_of(lines.begin(), lines.end(), [&](const ScoreLine& line) { return line.summary == summary; });
}

/// All scores of a suite so far, by step, in a new file that replaces what readers knew.
void write_tensorboard(const RunFolder& folder, const std::string& suite) {
  TensorBoardWriter writer(folder.tensorboard_path("eval@" + suite), 0, 0);
  for (const ScoreLine& line : read_scores(folder.scores_path())) {
    if (line.summary.suite != suite) continue;
    MetricValues values;
    for (const auto& [task, summary] : line.summary.tasks) {
      if (summary.score) values["score/task/" + task] = *summary.score;
      if (summary.success_rate) values["success/" + task] = *summary.success_rate;
      if (summary.loss) values["loss/" + task] = summary.loss->nats_per_token;
    }
    for (const auto& [domain, summary] : line.summary.domains) values["score/" + domain] = summary.score;
    if (line.summary.mean_score) values["score/mean"] = *line.summary.mean_score;
    values["score/tasks_at_50"] = static_cast<double>(line.summary.tasks_at_50);
    writer.write(line.summary.step, values);
  }
}

}  // namespace

bool finish_batch(EvaluationQueue& queue, QueuedBatch& batch) {
  batch.refresh();
  if (!batch.is_finished()) return false;
  const RunFolder& folder = queue.folder();
  const JobBatch& jobs = batch.batch();
  const std::vector<TaskResult> results = results_of(folder, jobs);
  if (!results.empty()) {
    const Summary summary = summarise(results);
    write_summary(folder.results_path(jobs.step, jobs.suite), summary);
    if (!is_recorded(folder, summary)) {
      append_scores(folder.scores_path(), summary);
      write_tensorboard(folder, jobs.suite);
    }
  }
  const bool closed = queue.close(batch);
  if (closed) log::info("eval", batch.name(), ": all ", jobs.jobs.size(), " jobs have ended");
  return closed;
}

WorkOutcome work(const RunFolder& folder, const JobRunner& runner, const WorkOptions& options) {
  return Worker(folder, runner, options).run();
}

}  // namespace gato::run
