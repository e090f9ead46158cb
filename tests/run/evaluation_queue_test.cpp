#include "gato/run/evaluation_queue.h"

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <thread>

#include "evaluation_jobs.h"
#include "gato/core/error.h"
#include "gato/core/log.h"
#include "run/exclusive_file.h"
#include "run/queue_names.h"
#include "support/child_process.h"
#include "support/temp_folder.h"

namespace {
/// What link(2) of this program does in this thread besides: see below.
thread_local bool loses_answers = false;
}  // namespace

/// In the place of the C library's. On demand like that of a network share whose server carried a link out, whose
/// answer was lost, and which refused the repetition; with a third name, as a server that keeps snapshots may give.
extern "C" int link(const char* from, const char* to) noexcept {
  const long outcome = ::syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, to, 0);
  if (outcome != 0 || !loses_answers) return static_cast<int>(outcome);
  const std::string snapshot = std::string(to) + ".snapshot";
  ::syscall(SYS_linkat, AT_FDCWD, from, AT_FDCWD, snapshot.c_str(), 0);
  errno = EEXIST;
  return -1;
}

namespace gato::run {
namespace {

namespace fs = std::filesystem;
using gato::test::TempFolder;
using test::plan_of;
using test::publish;

JobEvent event(JobEventKind kind, const std::string& worker = "w", const std::string& reason = "") {
  return {kind, worker, reason, 1};
}

class EvaluationQueueTest : public ::testing::Test {
 protected:
  EvaluationQueueTest() { log::set_level(log::Level::kError); }
  TempFolder folder_;
  RunFolder run_{folder_ / "run"};
};

TEST(ExclusiveFileTest, OfManyProcessesOneMakesTheFile) {
  const TempFolder folder;
  constexpr int kProcesses = 4, kFiles = 40;
  std::vector<pid_t> children;
  for (int p = 0; p < kProcesses; ++p) {
    children.push_back(gato::test::start_child([&] {
      for (int f = 0; f < kFiles; ++f) {
        if (create_file(folder / cat("file", f), cat(p))) append_line(folder / "winners", cat(f));
      }
      return 0;
    }));
  }
  for (const pid_t child : children) EXPECT_EQ(gato::test::wait_for_child(child).exit_code, 0);
  const auto winners = split(read_file(folder / "winners"), '\n');
  EXPECT_EQ(winners.size(), kFiles + 1u) << "one line per file, and the end";
  EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), kFiles + 1) << "nothing is left over";
}

TEST(ExclusiveFileTest, ALinkThatWasCarriedOutAndRefusedAllTheSameIsWon) {
  const TempFolder folder;
  loses_answers = true;
  const bool won = create_file(folder / "file", "mine");
  loses_answers = false;
  EXPECT_TRUE(won) << "the file is ours";
  EXPECT_FALSE(create_file(folder / "file", "another's"));
  EXPECT_EQ(read_file(folder / "file"), "mine");
}

TEST(ExclusiveFileTest, AFileIsToldFromAnotherOfItsNameAndText) {
  const TempFolder folder;
  write_file_atomic(folder / "file", "text");
  const auto first = file_identity(folder / "file");
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(file_identity(folder / "file"), first);
  write_file_atomic(folder / "file", "text");
  EXPECT_NE(file_identity(folder / "file"), first);
  EXPECT_FALSE(file_identity(folder / "none").has_value());
}

TEST(QueueNamesTest, EventNamesComeBack) {
  EXPECT_EQ(event_name(7, 3), "job-00007.3.json");
  EXPECT_EQ(parse_event_name(event_name(123456, 10)), std::pair(size_t{123456}, size_t{10}));
  for (const char* name : {"", "job-7.3.json", "job-00007.03.json", "job-00007.json", "job-0000a.3.json",
                           ".job-00007.3.json", "job-00007.3.json.new", "job-99999999999999999999999.3.json"}) {
    EXPECT_FALSE(parse_event_name(name).has_value()) << name;
  }
  for (const char* name : {"", ".", "../x", "a/b", "a b"}) EXPECT_FALSE(is_worker_name(name)) << name;
}

TEST(JobBatchTest, APlanBecomesJobsThatCoverEveryRolloutOnce) {
  EvaluationPlan plan = plan_of(3, 50, 20);
  plan.tasks_together = 2;
  plan.suites[0].texts = {"text/a", "text/b"};
  const JobBatch batch = make_batch(plan, plan.suites[0], 20);
  EXPECT_EQ(batch.checkpoint, "step-00000020");
  ASSERT_EQ(batch.jobs.size(), 6u) << "nine parts in pairs, and the texts";
  std::map<std::string, int64_t> next;
  for (const Job& job : batch.jobs) {
    for (const JobPart& part : job.parts) {
      if (part.is_text()) continue;
      EXPECT_EQ(part.first, next[part.task.task]);
      EXPECT_EQ(part.num_shards, 3);
      next[part.task.task] += part.task.rollouts;
    }
  }
  for (const auto& [task, rollouts] : next) EXPECT_EQ(rollouts, 50) << task;
  EXPECT_EQ(batch.jobs[5].parts.size(), 2u);
  EXPECT_EQ(parse_job_batch(to_json(batch), "test"), batch);
  EXPECT_EQ(parse_evaluation_plan(to_json(plan), "test"), plan);
  plan.rollouts_per_job = 0;
  EXPECT_EQ(make_batch(plan, plan.suites[0], 20).jobs[0].parts[0].num_shards, 1);
}

TEST(JobBatchTest, DamagedTextsAreErrorsAtEveryLength) {
  EvaluationPlan plan = plan_of(2, 5, 3);
  plan.suites[0].texts = {"text/a"};
  const std::string batch = to_json(make_batch(plan, plan.suites[0], 20)), whole = to_json(plan);
  const std::string one = to_json(event(JobEventKind::kFailed, "host-1", "why"));
  const auto cut_everywhere = [](const std::string& text, const auto& parse) {
    for (size_t size = 0; size + 1 < text.size(); ++size) {
      EXPECT_THROW(parse(text.substr(0, size)), DataError) << size;
    }
    for (size_t at = 0; at < text.size(); ++at) {
      std::string flipped = text;
      flipped[at] = static_cast<char>(flipped[at] ^ 4);
      try {
        parse(flipped);
      } catch (const DataError& error) {
        EXPECT_NE(std::string(error.what()).find("origin"), std::string::npos) << error.what();
      }
    }
  };
  cut_everywhere(batch, [](const std::string& text) { static_cast<void>(parse_job_batch(text, "origin")); });
  cut_everywhere(whole, [](const std::string& text) { static_cast<void>(parse_evaluation_plan(text, "origin")); });
  cut_everywhere(one, [](const std::string& text) { static_cast<void>(parse_job_event(text, "origin")); });
  const WorkerState state{"host-1-ab", "machine", 4, 5, 6, 7, "nothing"};
  EXPECT_EQ(parse_worker_state(to_json(state), "origin"), state);
  cut_everywhere(to_json(state),
                 [](const std::string& text) { static_cast<void>(parse_worker_state(text, "origin")); });
}

TEST(JobBatchTest, WhatWouldMakeOneResultOfTwoIsRefused) {
  const EvaluationPlan plan = plan_of(1, 5, 0);
  JobBatch batch = make_batch(plan, plan.suites[0], 20);
  batch.jobs.push_back(batch.jobs[0]);
  EXPECT_THROW(static_cast<void>(to_json(batch)), DataError);
  batch.jobs[1].parts[0].task.task = "../../outside";
  EXPECT_THROW(static_cast<void>(to_json(batch)), DataError);
}

TEST(JobStatusTest, EventsComeToAState) {
  using Kind = JobEventKind;
  std::vector<JobEvent> events;
  const auto after = [&](Kind kind, const std::string& worker = "a", const std::string& reason = "") {
    events.push_back(event(kind, worker, reason));
    return status_of(events, 2);
  };
  EXPECT_EQ(status_of({}, 2).state, JobState::kPending);
  EXPECT_EQ(after(Kind::kClaimed).worker, "a");
  EXPECT_EQ(after(Kind::kReturned).state, JobState::kPending);
  EXPECT_EQ(after(Kind::kClaimed, "b").state, JobState::kRunning);
  EXPECT_EQ(after(Kind::kLost, "c", "gone").attempts, 1);
  EXPECT_EQ(after(Kind::kClaimed, "d").state, JobState::kRunning);
  const JobStatus failed = after(Kind::kFailed, "d", "no such task");
  EXPECT_EQ(failed.state, JobState::kFailed);
  EXPECT_EQ(failed.reasons, (std::vector<std::string>{"gone", "no such task"}));
  EXPECT_EQ(after(Kind::kRetried, "person"), JobStatus{});
  EXPECT_EQ(after(Kind::kCancelled, "person").state, JobState::kCancelled);
  EXPECT_EQ(after(Kind::kRetried, "person").state, JobState::kPending);
  EXPECT_EQ(after(Kind::kDone, "b").state, JobState::kDone);
}

TEST_F(EvaluationQueueTest, CheckpointsThatAreDueAreQueuedOnce) {
  write_plan(run_, plan_of(2, 5, 0));
  EXPECT_EQ(enqueue_due(run_), 0) << "no checkpoint yet";
  for (const int64_t step : {5, 10, 20, 100}) publish(run_, step);
  EXPECT_EQ(enqueue_due(run_), 3) << "every 10 steps and the last";
  EXPECT_EQ(enqueue_due(run_), 0);
  EXPECT_EQ(checkpoints_in_use(run_), (std::set<int64_t>{10, 20, 100}));
  EvaluationQueue queue(run_.root());
  EXPECT_FALSE(queue.enqueue(make_batch(plan_of(9, 5, 0), plan_of(9, 5, 0).suites[0], 10))) << "is there otherwise";
  EXPECT_EQ(queue.open_batches()[0]->batch().jobs.size(), 2u);
  EXPECT_FALSE(EvaluationPlan{}.is_due(0));
}

TEST_F(EvaluationQueueTest, AJobIsClaimedByOneOfTwo) {
  const EvaluationPlan plan = plan_of(1, 5, 0);
  EvaluationQueue first(run_.root()), second(run_.root());
  EXPECT_TRUE(first.enqueue(make_batch(plan, plan.suites[0], 10)));
  QueuedBatch& a = *first.open_batches().at(0);
  QueuedBatch& b = *second.open_batches().at(0);
  EXPECT_TRUE(a.add(0, event(JobEventKind::kClaimed, "a")));
  EXPECT_FALSE(b.add(0, event(JobEventKind::kClaimed, "b"))) << "b did not know yet";
  EXPECT_EQ(b.status(0).worker, "a") << "and knows now";
}

TEST_F(EvaluationQueueTest, ABatchQueuedAnewIsNotTakenForTheOldOne) {
  const EvaluationPlan plan = plan_of(1, 5, 0);
  const JobBatch jobs = make_batch(plan, plan.suites[0], 10);
  EvaluationQueue queue(run_.root());
  queue.enqueue(jobs);
  QueuedBatch& old = *queue.open_batches().at(0);
  old.add(0, event(JobEventKind::kClaimed));
  fs::remove_all(old.folder());
  EvaluationQueue(run_.root()).enqueue(jobs);  // the same text in another file
  EXPECT_FALSE(old.add(0, event(JobEventKind::kDone)));
  EXPECT_TRUE(old.is_replaced());
  EXPECT_EQ(old.status(0).state, JobState::kCancelled) << "nobody does it for the old batch any more";
  EXPECT_FALSE(queue.retry(old, 0, "me"));
  EXPECT_FALSE(queue.close(old));
  EXPECT_EQ(std::distance(fs::directory_iterator(old.folder()), {}), 1) << "jobs.json alone";
  QueuedBatch& anew = *queue.open_batches().at(0);
  EXPECT_EQ(anew.status(0), JobStatus{});
  fs::remove_all(anew.folder());
  EXPECT_FALSE(anew.add(0, event(JobEventKind::kClaimed)));
  EXPECT_FALSE(fs::exists(anew.folder())) << "a removed batch is not made again";
}

TEST_F(EvaluationQueueTest, CancelledAndRetried) {
  const EvaluationPlan plan = plan_of(2, 5, 0);
  EvaluationQueue queue(run_.root());
  queue.enqueue(make_batch(plan, plan.suites[0], 10));
  QueuedBatch& batch = *queue.open_batches().at(0);
  EXPECT_FALSE(queue.retry(batch, 0, "me")) << "is pending";
  EXPECT_TRUE(queue.cancel(batch, 0, "me"));
  EXPECT_FALSE(queue.cancel(batch, 0, "me"));
  EXPECT_FALSE(queue.close(batch)) << "one job is open";
  batch.add(1, event(JobEventKind::kClaimed));
  batch.add(1, event(JobEventKind::kDone));
  EXPECT_FALSE(queue.cancel(batch, 1, "me")) << "is done";
  EXPECT_TRUE(queue.close(batch));
  EXPECT_TRUE(queue.open_batches().empty());
  EXPECT_TRUE(checkpoints_in_use(run_).empty());
  EXPECT_TRUE(queue.retry(batch, 0, "me"));
  EXPECT_EQ(queue.open_batches().size(), 1u) << "a retry opens it again";
  EXPECT_EQ(checkpoints_in_use(run_), std::set<int64_t>{10});
}

TEST_F(EvaluationQueueTest, ADamagedBatchDoesNotHoldUpOthers) {
  const EvaluationPlan plan = plan_of(1, 5, 0);
  EvaluationQueue queue(run_.root());
  queue.enqueue(make_batch(plan, plan.suites[0], 10));
  queue.enqueue(make_batch(plan, plan.suites[0], 20));
  write_file_atomic(run_.queue_path() / "step-00000010@quick" / "job-00000.0.json", "{");
  write_file_atomic(run_.queue_path() / "step-00000030@quick" / "jobs.json", "nonsense");
  make_folders(run_.queue_path() / "step-00000040@quick");  // being made
  ASSERT_EQ(queue.open_batches().size(), 1u);
  EXPECT_EQ(queue.open_batches()[0]->batch().step, 20);
}

}  // namespace
}  // namespace gato::run
