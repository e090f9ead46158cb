#include "gato/run/evaluation_worker.h"

#include <gtest/gtest.h>

#include <csignal>
#include <thread>

#include "evaluation_jobs.h"
#include "gato/core/error.h"
#include "gato/core/log.h"
#include "run/process_status.h"
#include "run/queue_names.h"
#include "support/child_process.h"
#include "support/temp_folder.h"

namespace gato::run {
namespace {

namespace fs = std::filesystem;
using gato::test::TempFolder;
using test::plan_of;
using test::play_nothing;
using test::publish;

class EvaluationWorkerTest : public ::testing::Test {
 protected:
  EvaluationWorkerTest() {
    log::set_level(log::Level::kOff);
    options_.poll_seconds = 0.01;
    options_.refail_seconds = 0;
    options_.is_stopped = [] { return false; };
  }
  void queue_jobs(const EvaluationPlan& plan, const std::vector<int64_t>& steps = {100}) {
    write_plan(run_, plan);
    for (const int64_t step : steps) publish(run_, step);
    enqueue_due(run_);
  }
  JobStatus status(size_t job) { return EvaluationQueue(run_.root()).all_batches().at(0)->status(job); }

  TempFolder folder_;
  RunFolder run_{folder_ / "run"};
  WorkOptions options_;
};

TEST_F(EvaluationWorkerTest, WorksUntilTheRunIsFinishedAndDrained) {
  EvaluationPlan plan = plan_of(3, 10, 4);
  plan.suites[0].texts = {"text/a"};
  queue_jobs(plan, {10, 100});
  const WorkOutcome outcome = work(run_, play_nothing, options_);
  EXPECT_TRUE(outcome.drained);
  EXPECT_EQ(outcome.done, 20);
  const auto scores = read_scores(run_.scores_path());
  ASSERT_EQ(scores.size(), 2u);
  EXPECT_EQ(scores[1].summary.tasks.at("domain/task0").rollouts, 10);
  EXPECT_EQ(scores[1].summary.tasks.at("domain/task0").note, "");
  EXPECT_TRUE(fs::exists(run_.results_path(100, "quick") / "summary.json"));
  EXPECT_FALSE(fs::is_empty(run_.tensorboard_path("eval@quick")));
  EXPECT_TRUE(read_workers(run_).empty()) << "a worker that ends leaves no file";
  EXPECT_TRUE(EvaluationQueue(run_.root()).open_batches().empty());
}

TEST_F(EvaluationWorkerTest, WaitsForTrainingUnlessItOnlyDrains) {
  queue_jobs(plan_of(1, 4, 0), {10});
  options_.drain = true;
  EXPECT_EQ(work(run_, play_nothing, options_).done, 1);
  options_.drain = false;
  int64_t polls = 0;
  options_.is_stopped = [&] { return ++polls > 20; };
  const WorkOutcome outcome = work(run_, play_nothing, options_);
  EXPECT_FALSE(outcome.drained) << "step 100 is still to come";
}

TEST_F(EvaluationWorkerTest, AFailingJobIsTriedAFewTimesAndSaysWhy) {
  queue_jobs(plan_of(2, 4, 0));
  int64_t calls = 0;
  const JobRunner runner = [&](const JobBatch& batch, const Job& job, const std::function<bool()>& wanted) {
    if (job.parts[0].task.task == "domain/task0") {
      ++calls;
      throw ConfigError("no such task here");
    }
    return play_nothing(batch, job, wanted);
  };
  const WorkOutcome outcome = work(run_, runner, options_);
  EXPECT_EQ(calls, 3);
  EXPECT_EQ(outcome.failed, 3);
  EXPECT_EQ(status(0).state, JobState::kFailed);
  EXPECT_EQ(status(0).reasons.back(), "no such task here");
  EXPECT_EQ(status(1).state, JobState::kDone);
  EXPECT_EQ(read_scores(run_.scores_path()).at(0).summary.tasks.size(), 1u);
  // Mended and retried, the table is made anew.
  EvaluationQueue queue(run_.root());
  EXPECT_TRUE(queue.retry(*queue.all_batches().at(0), 0, "me"));
  EXPECT_EQ(work(run_, play_nothing, options_).done, 1);
  EXPECT_EQ(read_scores(run_.scores_path()).at(0).summary.tasks.size(), 2u);
}

TEST_F(EvaluationWorkerTest, AStoppedWorkerGivesItsJobBack) {
  queue_jobs(plan_of(1, 4, 0));
  bool stopped = false;
  options_.is_stopped = [&] { return stopped; };
  const JobRunner runner = [&](const JobBatch&, const Job&,
                               const std::function<bool()>& wanted) -> std::vector<TaskResult> {
    stopped = true;
    EXPECT_FALSE(wanted());
    throw Interrupted("stopped");
  };
  const WorkOutcome outcome = work(run_, runner, options_);
  EXPECT_EQ(outcome.done, 0);
  EXPECT_EQ(status(0), JobStatus{}) << "pending, and no attempt is spent";
}

TEST_F(EvaluationWorkerTest, ResultsThatAreThereAreNotPlayedAgain) {
  queue_jobs(plan_of(2, 4, 0));
  const JobBatch batch = EvaluationQueue(run_.root()).open_batches().at(0)->batch();
  write_result(run_.results_path(100, "quick"), play_nothing(batch, batch.jobs[0], {})[0]);
  int64_t calls = 0;
  const JobRunner runner = [&](const JobBatch& jobs, const Job& job, const std::function<bool()>& wanted) {
    ++calls;
    return play_nothing(jobs, job, wanted);
  };
  EXPECT_EQ(work(run_, runner, options_).done, 2);
  EXPECT_EQ(calls, 1);
}

TEST_F(EvaluationWorkerTest, AJobFinishedTwiceHasOneResult) {
  queue_jobs(plan_of(1, 4, 0));
  // While the first worker plays, another takes the job for lost and plays it too.
  const JobRunner slow = [&](const JobBatch& batch, const Job& job, const std::function<bool()>& wanted) {
    EvaluationQueue queue(run_.root());
    QueuedBatch& seen = *queue.open_batches().at(0);
    EXPECT_TRUE(seen.add(0, {JobEventKind::kLost, "judge", "no sign of life", 1}));
    WorkOptions others = options_;
    others.max_jobs = 1;
    EXPECT_EQ(work(run_, play_nothing, others).done, 1);
    auto results = play_nothing(batch, job, wanted);
    results[0].seconds = 77;
    return results;
  };
  work(run_, slow, options_);
  const auto results = read_results(run_.results_path(100, "quick"));
  ASSERT_EQ(results.size(), 1u);
  EXPECT_EQ(results[0].seconds, 0) << "the first result stays";
  int64_t done = 0;
  EvaluationQueue queue(run_.root());
  for (const JobEvent& event : queue.all_batches().at(0)->events(0)) done += event.kind == JobEventKind::kDone ? 1 : 0;
  EXPECT_EQ(done, 1);
}

TEST_F(EvaluationWorkerTest, ACancelledJobLeavesNoResult) {
  queue_jobs(plan_of(1, 4, 0));
  const JobRunner runner = [&](const JobBatch&, const Job&, const std::function<bool()>&) -> std::vector<TaskResult> {
    EvaluationQueue queue(run_.root());
    EXPECT_TRUE(queue.cancel(*queue.open_batches().at(0), 0, "me"));
    throw Interrupted("not wanted");
  };
  EXPECT_TRUE(work(run_, runner, options_).drained);
  EXPECT_EQ(status(0).state, JobState::kCancelled);
  EXPECT_FALSE(fs::exists(run_.scores_path()));
}

TEST_F(EvaluationWorkerTest, AKilledWorkersJobIsDoneByAnother) {
  queue_jobs(plan_of(1, 4, 0));
  const auto end = gato::test::run_in_child([&] {
    const JobRunner dies = [](const JobBatch&, const Job&, const std::function<bool()>&) -> std::vector<TaskResult> {
      ::raise(SIGKILL);
      return {};
    };
    work(run_, dies, options_);
    return 0;
  });
  EXPECT_EQ(end.signal, SIGKILL);
  EXPECT_EQ(status(0).state, JobState::kRunning);
  EXPECT_EQ(work(run_, play_nothing, options_).done, 1);
  EvaluationQueue queue(run_.root());
  const auto& events = queue.all_batches().at(0)->events(0);
  ASSERT_EQ(events.size(), 4u);
  EXPECT_EQ(events[1].kind, JobEventKind::kLost);
  EXPECT_NE(events[1].reason.find("ended without giving it back"), std::string::npos) << events[1].reason;
  EXPECT_TRUE(read_workers(run_).empty()) << "the dead worker's file is removed";
}

TEST_F(EvaluationWorkerTest, ASilentWorkerOfAnotherMachineIsGoneAfterItsLease) {
  double now = 1000;
  LeaseWatch watch(run_, 60, [&] { return now; });
  WorkerState state{"elsewhere-1-ab", "another machine", 1, 1, 1, "job"};
  const auto beat = [&](int64_t number) {
    state.beat = number;
    write_file_atomic(run_.queue_path() / kWorkersName / "elsewhere-1-ab.json", to_json(state));
  };
  beat(5);
  EXPECT_FALSE(watch.gone(state.name));
  now += 59;
  EXPECT_FALSE(watch.gone(state.name));
  beat(4);  // whatever its clock or count: a change is a sign of life
  now += 59;
  EXPECT_FALSE(watch.gone(state.name));
  now += 59;
  EXPECT_FALSE(watch.gone(state.name));
  now += 1;
  EXPECT_TRUE(watch.gone(state.name));
  EXPECT_FALSE(watch.gone("never-seen-1")) << "its file may not have come here yet";
  now += 60;
  EXPECT_TRUE(watch.gone("never-seen-1"));
}

TEST_F(EvaluationWorkerTest, PresenceBeats) {
  const WorkerPresence presence(run_, 0.01);
  const int64_t first = read_workers(run_).at(0).beat;
  for (int i = 0; i < 500 && read_workers(run_).at(0).beat == first; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_GT(read_workers(run_).at(0).beat, first);
  EXPECT_EQ(read_workers(run_).at(0).machine, machine_name());
}

}  // namespace
}  // namespace gato::run
