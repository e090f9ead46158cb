#include "gato/run/evaluation_worker.h"

#include <gtest/gtest.h>

#include <csignal>
#include <set>
#include <thread>

#include "evaluation_jobs.h"
#include "gato/core/error.h"
#include "gato/core/log.h"
#include "run/job_results.h"
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
  EXPECT_EQ(outcome.end, WorkEnd::kDrained);
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
  EXPECT_EQ(outcome.end, WorkEnd::kStopped) << "step 100 is still to come";
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
  EXPECT_EQ(outcome.left_undone, 1);
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
  EXPECT_EQ(work(run_, runner, options_).end, WorkEnd::kDrained);
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
  LeaseWatch watch(run_, 60, 1e9, [&] { return now; });
  WorkerState state{"elsewhere-1-ab", "another machine", 1, 1, 1, 1, "job"};
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

TEST_F(EvaluationWorkerTest, AWorkerThatLivesButDoesNotComeOnIsGone) {
  double now = 1000;
  LeaseWatch watch(run_, 60, 900, [&] { return now; });
  WorkerState state{"elsewhere-1-ab", "another machine", 1, 1, 1, 1, "job"};
  const auto minute_later = [&](int64_t progress) {
    now += 50;
    state.beat += 1;
    state.progress += progress;
    write_file_atomic(run_.queue_path() / kWorkersName / "elsewhere-1-ab.json", to_json(state));
    return watch.gone(state.name);
  };
  for (int i = 0; i < 100; ++i) EXPECT_FALSE(minute_later(1)) << i;
  for (int i = 0; i < 17; ++i) EXPECT_FALSE(minute_later(0)) << i;
  const auto reason = minute_later(0);
  ASSERT_TRUE(reason.has_value());
  EXPECT_NE(reason->find("lives but has not come on for 15 min"), std::string::npos) << *reason;
  watch.remove_gone({});
  EXPECT_EQ(read_workers(run_).size(), 1u) << "it lives";
  EXPECT_FALSE(minute_later(1)) << "it comes on again";
}

TEST_F(EvaluationWorkerTest, WhatAMachineDoesNotTellOfAProcessIsNotItsEnd) {
  const auto self = process_status(::getpid());
  ASSERT_TRUE(self.has_value());
  EXPECT_EQ(process_life(::getpid(), self->start), ProcessLife::kLives);
  EXPECT_EQ(process_life(::getpid(), self->start + 1), ProcessLife::kEnded) << "its number was given to another";
  EXPECT_EQ(process_life(::getpid(), 0), ProcessLife::kUnknown);
  EXPECT_EQ(process_life(::getpid(), self->start, folder_.path()), ProcessLife::kUnknown) << "no /proc";
  const pid_t child = gato::test::start_child([] { return 0; });
  gato::test::wait_for_child(child);
  EXPECT_EQ(process_life(child, 1, folder_.path()), ProcessLife::kEnded) << "not even without /proc";
  // One that could not read its own start is judged by its beat.
  LeaseWatch watch(run_, 60, 900, [] { return 1.0; });
  WorkerState state{"here-1-ab", machine_name(), ::getpid(), 0, 1, 1, "job"};
  write_file_atomic(run_.queue_path() / kWorkersName / "here-1-ab.json", to_json(state));
  EXPECT_FALSE(watch.gone(state.name));
}

TEST_F(EvaluationWorkerTest, AHangingWorkersJobIsDoneByAnother) {
  queue_jobs(plan_of(1, 4, 0));
  options_.stall_seconds = 0.3;
  options_.lease_seconds = 0.2;  // it beats three times as often
  const pid_t hangs = gato::test::start_child([&] {
    const JobRunner runner = [](const JobBatch&, const Job&, const std::function<bool()>&) {
      ::pause();
      return std::vector<TaskResult>{};
    };
    work(run_, runner, options_);
    return 0;
  });
  while (status(0).state != JobState::kRunning) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  options_.lease_seconds = 60;
  EXPECT_EQ(work(run_, play_nothing, options_).done, 1);
  EvaluationQueue queue(run_.root());
  EXPECT_NE(queue.all_batches().at(0)->events(0).at(1).reason.find("has not come on"), std::string::npos);
  ::kill(hangs, SIGKILL);
  gato::test::wait_for_child(hangs);
}

TEST_F(EvaluationWorkerTest, ResultsOfOtherSettingsAreNotTheJobs) {
  queue_jobs(plan_of(1, 4, 0));
  const JobBatch batch = EvaluationQueue(run_.root()).open_batches().at(0)->batch();
  const TaskResult right = play_nothing(batch, batch.jobs[0], {})[0];
  const Path results = run_.results_path(100, "quick");
  const std::vector<std::pair<const char*, std::function<void(TaskResult&)>>> changes = {
      {"seed", [](TaskResult& result) { result.play->seed = 1; }},
      {"first", [](TaskResult& result) { result.play->first = 4; }},
      {"slots", [](TaskResult& result) { result.play->slots = 3; }},
      {"together",
       [](TaskResult& result) {
         result.play->together.push_back({"domain/b", 0, 4});
       }},
      {"temperature", [](TaskResult& result) { result.decoding.temperature = 0.5; }},
      {"top_p", [](TaskResult& result) { result.decoding.top_p = 0.5; }},
      {"prompt", [](TaskResult& result) { result.decoding.prompt = "demonstration"; }},
      {"record", [](TaskResult& result) { result.play.reset(); }}};
  for (const auto& [name, change] : changes) {
    TaskResult other = right;
    change(other);
    EXPECT_FALSE(is_result_of(other, batch, batch.jobs[0], batch.jobs[0].parts[0])) << name;
    write_result(results, other);
    EXPECT_TRUE(write_result_once(results, right)) << name << ": what is there is no repetition";
    EXPECT_EQ(read_results(results).at(0), right) << name;
  }
  EXPECT_TRUE(is_result_of(right, batch, batch.jobs[0], batch.jobs[0].parts[0]));
  TaskResult elsewhere = right;
  elsewhere.play->machine = "another";
  EXPECT_FALSE(write_result_once(results, elsewhere)) << "the same on another machine is a repetition";
}

TEST_F(EvaluationWorkerTest, ADoneJobWhoseResultCannotBeReadIsDoneAgain) {
  queue_jobs(plan_of(3, 4, 0));
  const Path results = run_.results_path(100, "quick");
  std::vector<std::string> played;  // in the order of the calls
  const JobRunner runner = [&](const JobBatch& batch, const Job& job, const std::function<bool()>& wanted) {
    played.push_back(job.parts[0].task.task);
    if (played.size() == 3) {  // two are done
      write_file_atomic(results / result_file_name(played[0], 0), "{");
      fs::remove(results / result_file_name(played[1], 0));
      write_file_atomic(results / "other-task.shard-0.json", "nonsense that is none of this batch");
    }
    return play_nothing(batch, job, wanted);
  };
  const WorkOutcome outcome = work(run_, runner, options_);
  EXPECT_EQ(outcome.end, WorkEnd::kDrained);
  EXPECT_EQ(outcome.done, 5) << "three, and two again";
  EXPECT_EQ(read_scores(run_.scores_path()).at(0).summary.tasks.size(), 3u);
  ASSERT_EQ(played.size(), 5u);
  EXPECT_EQ(std::set(played.begin() + 3, played.end()), std::set(played.begin(), played.begin() + 2));
  EvaluationQueue queue(run_.root());
  const QueuedBatch& batch = *queue.all_batches().at(0);
  for (size_t job = 0; job < 3; ++job) {
    const std::string& task = batch.batch().jobs[job].parts[0].task.task;
    if (task == played[2]) continue;
    EXPECT_NE(batch.events(job).at(2).reason.find(result_file_name(task, 0)), std::string::npos) << task;
  }
}

TEST_F(EvaluationWorkerTest, ShardsThatDisagreeCostTheirTaskAlone) {
  queue_jobs(plan_of(2, 4, 2));
  const JobRunner runner = [&](const JobBatch& batch, const Job& job, const std::function<bool()>& wanted) {
    auto made = play_nothing(batch, job, wanted);
    if (made[0].task == "domain/task0" && made[0].shard == 1) made[0].expert.mean = 11;
    return made;
  };
  EXPECT_EQ(work(run_, runner, options_).end, WorkEnd::kDrained);
  const Summary summary = read_scores(run_.scores_path()).at(0).summary;
  EXPECT_FALSE(summary.tasks.at("domain/task0").score.has_value());
  EXPECT_NE(summary.tasks.at("domain/task0").note.find("references"), std::string::npos);
  EXPECT_TRUE(summary.tasks.at("domain/task1").score.has_value());
}

TEST_F(EvaluationWorkerTest, WhatARunnerCannotReadFailsTheJobAndNotTheWorker) {
  queue_jobs(plan_of(2, 4, 0));
  int64_t calls = 0;
  const JobRunner runner = [&](const JobBatch& batch, const Job& job, const std::function<bool()>& wanted) {
    if (++calls == 1) throw IoError("the checkpoint cannot be read", EIO);
    return play_nothing(batch, job, wanted);
  };
  const WorkOutcome outcome = work(run_, runner, options_);
  EXPECT_EQ(outcome.end, WorkEnd::kDrained);
  EXPECT_EQ(outcome.done, 2);
  EXPECT_EQ(outcome.failed, 1);
  EXPECT_EQ(outcome.left_undone, 0) << "the second attempt did it";
}

TEST_F(EvaluationWorkerTest, DamagedFilesOfTheQueueDoNotEndAWorker) {
  queue_jobs(plan_of(1, 4, 0), {10, 100});
  write_file_atomic(run_.queue_path() / "step-00000010@quick" / "job-00000.0.json", "{");
  write_file_atomic(run_.root() / "eval" / "plan.json", "{");
  options_.drain = true;
  EXPECT_EQ(work(run_, play_nothing, options_).done, 1);
  EXPECT_TRUE(fs::exists(run_.queue_path() / "step-00000100@quick" / kClosedName));
}

TEST_F(EvaluationWorkerTest, ABatchQueuedAnewMeanwhileIsPlayedAnew) {
  const EvaluationPlan plan = plan_of(2, 4, 0);
  queue_jobs(plan);
  int64_t calls = 0;
  const JobRunner runner = [&](const JobBatch& batch, const Job& job, const std::function<bool()>& wanted) {
    if (++calls == 1) {
      EvaluationPlan other = plan;
      other.settings.seed = 5;
      fs::remove_all(run_.queue_path() / "step-00000100@quick");
      EvaluationQueue(run_.root()).enqueue(make_batch(other, other.suites[0], 100));
    }
    return play_nothing(batch, job, wanted);
  };
  EXPECT_EQ(work(run_, runner, options_).end, WorkEnd::kDrained);
  for (const TaskResult& result : read_results(run_.results_path(100, "quick"))) EXPECT_EQ(result.play->seed, 5u);
  EXPECT_EQ(read_scores(run_.scores_path()).size(), 1u);
  EXPECT_EQ(calls, 3) << "one for the old batch";
  EXPECT_EQ(status(0).state, JobState::kDone);
}

TEST_F(EvaluationWorkerTest, EndsAfterSomeJobsOrWhenStoppedAndSaysWhich) {
  queue_jobs(plan_of(3, 4, 0));
  options_.max_jobs = 1;
  EXPECT_EQ(work(run_, play_nothing, options_).end, WorkEnd::kMaxJobs);
  options_.is_stopped = [] { return true; };
  EXPECT_EQ(work(run_, play_nothing, options_).end, WorkEnd::kStopped);
}

TEST_F(EvaluationWorkerTest, PresenceBeats) {
  const WorkerPresence presence(run_, 0.01);
  const int64_t first = read_workers(run_).at(0).beat;
  for (int i = 0; i < 500 && read_workers(run_).at(0).beat == first; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  EXPECT_GT(read_workers(run_).at(0).beat, first);
  EXPECT_EQ(worker_of_process(run_, ::getpid()).value().name, presence.name());
  EXPECT_FALSE(worker_of_process(run_, ::getppid()).has_value());
  EXPECT_EQ(read_workers(run_).at(0).machine, machine_name());
}

}  // namespace
}  // namespace gato::run
