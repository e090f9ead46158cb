#pragma once
#include <signal.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "evaluation_jobs.h"
#include "gato/core/log.h"
#include "gato/core/random.h"
#include "support/child_process.h"
#include "support/temp_folder.h"

/// Workers that are killed and held up at random, and what is left in the results.
namespace gato::run::test {

struct CampaignOptions {
  int64_t workers = 4, jobs = 24;
  double lease_seconds = 0.5;
  int least_ms = 2, most_ms = 60;          ///< What a job takes,
  int least_pause = 60, most_pause = 250;  ///< and how long the workers are left alone in between.
  uint64_t seed = 1;
};

struct CampaignOutcome {
  int64_t kills = 0, stops = 0;       ///< Of workers.
  double sleeper_seconds = 0;         ///< How long one stood still in the middle of a job.
  int64_t lost = 0, done_events = 0;  ///< Events of jobs.
  int64_t results = 0, rollouts = 0;  ///< In the results folder.
  int64_t jobs_done = 0, jobs_done_twice = 0;
  int64_t scored_rollouts = 0;  ///< In scores.jsonl.
  int64_t leftovers = 0;        ///< Hidden files of killed workers.
  gato::test::ChildEnd sleeper_end;
};

inline int run_worker(const RunFolder& run, const CampaignOptions& options, uint64_t seed) {
  log::set_level(log::Level::kOff);
  WorkOptions work_options;
  work_options.lease_seconds = options.lease_seconds;
  work_options.poll_seconds = 0.02;
  work_options.is_stopped = [] { return false; };
  Rng rng(mix_seed(seed, {static_cast<uint64_t>(::getpid())}));
  const JobRunner runner = [&](const JobBatch& batch, const Job& job, const std::function<bool()>& wanted) {
    const int64_t ms = options.least_ms + rng.below(options.most_ms - options.least_ms + 1);
    std::this_thread::sleep_for(std::chrono::milliseconds(ms));
    return play_nothing(batch, job, wanted);
  };
  return work(run, runner, work_options).end == WorkEnd::kDrained ? 0 : 1;
}

/// Workers under fire until the queue is drained; ended ones are replaced. One more claims a job, is stopped in the
/// middle of it and goes on once all others have done the rest, its job too.
class Campaign {
 public:
  explicit Campaign(const CampaignOptions& options) : options_(options), rng_(options.seed) {}

  CampaignOutcome run() {
    EvaluationPlan plan = plan_of(options_.jobs, 5, 0);
    plan.settings.max_attempts = 1000;  // a kill costs an attempt
    write_plan(run_, plan);
    publish(run_, plan.last_step);
    enqueue_due(run_);
    workers_.assign(static_cast<size_t>(options_.workers), 0);
    const pid_t sleeper = put_one_to_sleep();
    const auto asleep = std::chrono::steady_clock::now();
    for (pid_t& worker : workers_) start(worker);
    while (!is_closed()) disturb();
    ::kill(sleeper, SIGCONT);
    outcome_.sleeper_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - asleep).count();
    outcome_.sleeper_end = gato::test::wait_for_child(sleeper);
    for (const pid_t worker : workers_) ::kill(worker, SIGCONT);
    for (const pid_t worker : workers_) gato::test::wait_for_child(worker);
    count();
    return outcome_;
  }

 private:
  /// A worker that stands still from the middle of its first job on.
  pid_t put_one_to_sleep() {
    CampaignOptions slow = options_;
    slow.least_ms = slow.most_ms = 200;
    const pid_t sleeper = gato::test::start_child([&] { return run_worker(run_, slow, options_.seed); });
    while (!has_claim()) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    ::kill(sleeper, SIGSTOP);
    return sleeper;
  }

  [[nodiscard]] bool has_claim() {
    EvaluationQueue queue(run_.root());
    for (const QueuedBatch* batch : queue.open_batches()) {
      for (size_t job = 0; job < batch->batch().jobs.size(); ++job) {
        if (batch->status(job).state == JobState::kRunning) return true;
      }
    }
    return false;
  }

  void start(pid_t& worker) {
    worker = gato::test::start_child([&] { return run_worker(run_, options_, options_.seed); });
  }

  [[nodiscard]] bool is_closed() { return EvaluationQueue(run_.root()).open_batches().empty(); }

  /// Now and then kills a worker, or holds it up for longer than its lease.
  void disturb() {
    std::this_thread::sleep_for(
        std::chrono::milliseconds(rng_.below(options_.most_pause - options_.least_pause) + options_.least_pause));
    pid_t& worker = workers_[static_cast<size_t>(rng_.below(options_.workers))];
    if (rng_.uniform() < 0.15) {
      ::kill(worker, SIGSTOP);
      ++outcome_.stops;
      std::this_thread::sleep_for(std::chrono::duration<double>(1.6 * options_.lease_seconds));
      ::kill(worker, SIGCONT);
      return;
    }
    ::kill(worker, SIGKILL);
    gato::test::wait_for_child(worker);
    ++outcome_.kills;
    start(worker);
  }

  void count() {
    EvaluationQueue queue(run_.root());
    const QueuedBatch& batch = *queue.all_batches().at(0);
    for (size_t job = 0; job < batch.batch().jobs.size(); ++job) {
      int64_t done = 0;
      for (const JobEvent& event : batch.events(job)) {
        outcome_.lost += event.kind == JobEventKind::kLost ? 1 : 0;
        done += event.kind == JobEventKind::kDone ? 1 : 0;
      }
      outcome_.done_events += done;
      outcome_.jobs_done_twice += done > 1 ? 1 : 0;
      outcome_.jobs_done += batch.status(job).state == JobState::kDone ? 1 : 0;
    }
    for (const TaskResult& result : read_results(run_.results_path(batch.batch().step, batch.batch().suite))) {
      ++outcome_.results;
      outcome_.rollouts += static_cast<int64_t>(result.rollouts.size());
    }
    for (const auto& entry : std::filesystem::recursive_directory_iterator(run_.root() / "eval")) {
      outcome_.leftovers += entry.path().filename().string().starts_with('.') ? 1 : 0;
    }
    const std::vector<ScoreLine> scores = read_scores(run_.scores_path());
    for (const auto& [task, line] : scores.at(0).summary.tasks) {
      outcome_.scored_rollouts += line.rollouts;
    }
  }

  CampaignOptions options_;
  Rng rng_;
  gato::test::TempFolder folder_{"queue"};
  RunFolder run_{folder_ / "run"};
  std::vector<pid_t> workers_;
  CampaignOutcome outcome_;
};

}  // namespace gato::run::test
