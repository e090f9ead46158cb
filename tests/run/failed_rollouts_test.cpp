#include <gtest/gtest.h>

#include "gato/core/error.h"
#include "gato/run/results.h"

namespace gato::run {
namespace {

/// Returns 0, 2, 4, ...; every third rollout failed.
TaskResult result_with_failures() {
  TaskResult result;
  result.task = "babyai/GoToLocal-v0";
  result.checkpoint = "step-00001000";
  result.step = 1000;
  result.suite = "babyai";
  result.expert = {10, 0.1, 50};
  result.random = {0, 0.1, 50};
  for (uint64_t i = 0; i < 9; ++i) {
    RolloutRecord rollout;
    rollout.seed = i;
    rollout.episode_return = 2 * static_cast<double>(i);
    rollout.length = 5;
    if (i % 3 == 2) {
      rollout.failure = "the worker for minigrid failed: no answer within 30 s";
    } else {
      rollout.success = true;
    }
    result.rollouts.push_back(rollout);
  }
  return result;
}

TEST(FailedRolloutsTest, ComeBackAsTheyWere) {
  const TaskResult result = result_with_failures();
  EXPECT_EQ(parse_task_result(to_json(result), "a test"), result);
}

TEST(FailedRolloutsTest, EnterNoScoreAndAreNamed) {
  TaskResult result = result_with_failures();
  const TaskSummary with = summarise({result}).tasks.at(result.task);
  std::erase_if(result.rollouts, [](const RolloutRecord& rollout) { return !rollout.failure.empty(); });
  const TaskSummary without = summarise({result}).tasks.at(result.task);
  EXPECT_EQ(with.rollouts, 6);
  EXPECT_EQ(with.score, without.score);
  EXPECT_EQ(with.ci95, without.ci95);
  EXPECT_EQ(with.success_rate, 1.0);
  EXPECT_NE(with.note.find("3 of 9 rollouts"), std::string::npos) << with.note;
  EXPECT_EQ(without.note, "");
}

TEST(FailedRolloutsTest, ATaskOfWhichAllFailedHasNoScore) {
  TaskResult result = result_with_failures();
  for (RolloutRecord& rollout : result.rollouts) rollout.failure = "it is broken";
  const TaskSummary summary = summarise({result}).tasks.at(result.task);
  EXPECT_FALSE(summary.score.has_value());
  EXPECT_NE(summary.note.find("9 of 9"), std::string::npos) << summary.note;
}

TEST(FailedRolloutsTest, AnExpertWithinTwoStandardErrorsOfRandomGivesNoScore) {
  TaskResult result = result_with_failures();
  result.expert = {0.5, 0.2, 50};
  result.random = {0.2, 0.2, 50};
  TaskSummary summary = summarise({result}).tasks.at(result.task);
  EXPECT_FALSE(summary.score.has_value());
  EXPECT_NE(summary.note.find("not better than random"), std::string::npos) << summary.note;
  result.expert.mean = 1;
  summary = summarise({result}).tasks.at(result.task);
  EXPECT_TRUE(summary.score.has_value());
}

}  // namespace
}  // namespace gato::run
