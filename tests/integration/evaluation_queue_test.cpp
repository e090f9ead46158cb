#include <gtest/gtest.h>

#include <functional>

#include "gato/core/error.h"
#include "gato/env/environment.h"
#include "gato/eval/evaluate.h"
#include "gato/eval/job_player.h"
#include "gato/run/compare.h"
#include "gato/run/evaluation_worker.h"
#include "small_run.h"

// Jobs of a queue played by a trained model.
namespace gato::eval {
namespace {

using testing::small_run;

/// Control and grid together, pictures and control in halves, and a text.
run::EvaluationPlan plan_named(const std::string& suite) {
  run::EvaluationPlan plan;
  plan.last_step = 30;
  plan.rollouts_per_job = 3;
  plan.tasks_together = 2;
  plan.settings.slots = 4;
  plan.suites = {{suite,
                  {{.task = "control/point_mass", .rollouts = 3},
                   {.task = "grid/go_to", .rollouts = 3},
                   {.task = "pictures/question", .rollouts = 6}},
                  {"text/kjv"}}};
  return plan;
}

/// By workers that come one after the other, each with a model of its own, and do `jobs_each` jobs (0: all).
std::vector<run::TaskResult> play_all(const std::string& suite, const run::EvaluationPlan& plan,
                                      int64_t jobs_each = 0) {
  const run::RunFolder folder(small_run().run());
  run::EvaluationQueue queue(folder.root());
  queue.enqueue(make_batch(plan, plan.suites[0], 30));
  run::WorkOptions options;
  options.drain = true;
  options.max_jobs = jobs_each;
  options.poll_seconds = 0.01;
  options.is_stopped = [] { return false; };
  while (true) {
    JobPlayer player(folder.root(), {"cpu", false});
    const run::WorkOutcome outcome = run::work(folder, std::ref(player), options);
    EXPECT_EQ(outcome.failed, 0);
    EXPECT_EQ(player.models_loaded(), outcome.done > 0 ? 1 : 0) << "the model stays loaded";
    if (outcome.end == run::WorkEnd::kDrained) break;
  }
  return run::read_results(folder.results_path(30, suite));
}

void expect_same_rollouts(const std::vector<run::TaskResult>& a, const std::vector<run::TaskResult>& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_EQ(a[i].task, b[i].task);
    EXPECT_EQ(a[i].rollouts, b[i].rollouts) << a[i].task;
  }
}

TEST(JobPlayerTest, JobsGiveTheSameRolloutsAgainAndThoseOfADirectEvaluation) {
  const auto first = play_all("queued", plan_named("queued"));
  ASSERT_EQ(first.size(), 5u) << "two tasks, two halves of the third, a text";
  expect_same_rollouts(first, play_all("again", plan_named("again"), 1));
  EXPECT_EQ(first[0].play->together.size(), 2u);
  EXPECT_EQ(first[0].play->machine.rfind("cpu", 0), 0u);

  EvaluateOptions options;
  options.checkpoint = small_run().checkpoint();
  options.suite = small_run().suite();
  options.suite.name = "direct";
  options.tasks = {"control/point_mass", "grid/go_to"};
  options.rollouts = 3;
  options.device = "cpu";
  options.record_episodes = 0;
  const auto direct = run::read_results(evaluate(options).out);
  for (size_t i = 0; i < direct.size(); ++i) EXPECT_EQ(direct[i].rollouts, first[i].rollouts) << direct[i].task;
  EXPECT_EQ(run::compare_results(first, direct).probability_b_better, 0.5);
}

TEST(JobPlayerTest, AResultIsReplayedAndAnimated) {
  play_all("replayed", plan_named("replayed"));
  const run::RunFolder folder(small_run().run());
  ReplayOptions options;
  options.result = folder.results_path(30, "replayed") / "grid-go_to.shard-0.json";
  const gato::test::TempFolder out;
  options.out = out.path();
  options.device = "cpu";
  options.rollout = 1;
  const ReplayOutcome outcome = replay_result(options);
  EXPECT_TRUE(outcome.differences.empty()) << outcome.differences.front();
  EXPECT_EQ(read_file(outcome.animation).substr(0, 6), "GIF89a");

  // Two shards of a task in one job: the first is compared with its own rollouts, not with the last one's.
  options.result = folder.results_path(30, "replayed") / "pictures-question.shard-0.json";
  const ReplayOutcome half = replay_result(options);
  EXPECT_EQ(half.recorded.play->together.size(), 2u);
  EXPECT_TRUE(half.differences.empty()) << half.differences.front();
  options.result = folder.results_path(30, "replayed") / "grid-go_to.shard-0.json";

  run::TaskResult forged = outcome.recorded;
  forged.rollouts[2].episode_return += 1;
  run::write_result(folder.results_path(30, "replayed"), forged);
  EXPECT_EQ(replay_result(options).differences.size(), 1u);
  forged.play->model = "another";
  run::write_result(folder.results_path(30, "replayed"), forged);
  EXPECT_THROW(static_cast<void>(replay_result(options)), ConfigError);
}

TEST(JobPlayerTest, ADemonstrationInFrontIsRecordedAndChangesWhatTheModelSees) {
  const Agent agent(small_run().checkpoint());
  const tokenizer::TokenSequence prompt = agent.demonstration("grid/go_to");
  EXPECT_GT(prompt.size(), 0);
  EXPECT_LE(prompt.size(), agent.row_tokens() / 2);
  EXPECT_THROW(static_cast<void>(agent.demonstration("no/task")), ConfigError);

  run::EvaluationPlan plan = plan_named("small-prompted");
  plan.suites[0].tasks = {{.task = "grid/go_to", .rollouts = 3}};
  plan.suites[0].texts.clear();
  plan.settings.prompt = "demonstration";
  const auto prompted = play_all("small-prompted", plan);
  EXPECT_EQ(prompted.at(0).decoding.prompt, "demonstration");
  plan.suites[0].name = "small-plain";
  plan.settings.prompt = "none";
  EXPECT_NE(prompted.at(0).rollouts, play_all("small-plain", plan).at(0).rollouts);
}

}  // namespace
}  // namespace gato::eval
