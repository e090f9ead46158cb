#include "gato/run/compare.h"

#include <gtest/gtest.h>

#include <cmath>

#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/core/text.h"

namespace gato::run {
namespace {

TaskResult result_of(const std::string& task, const std::vector<double>& returns, uint64_t first_seed = 1) {
  TaskResult result;
  result.task = task;
  result.expert = {10, 0, 50};
  result.random = {0, 0, 50};
  for (size_t i = 0; i < returns.size(); ++i) {
    RolloutRecord& rollout = result.rollouts.emplace_back();
    rollout.seed = first_seed + i;
    rollout.episode_return = returns[i];
  }
  return result;
}

TEST(CompareTest, ASmallGainOnEverySeedIsCertainHoweverMuchSeedsDiffer) {
  std::vector<double> a, b;
  Rng rng(3);
  for (int i = 0; i < 40; ++i) {
    a.push_back(rng.uniform(0, 10));
    b.push_back(a.back() + 0.1);
  }
  const Comparison outcome = compare_results({result_of("d/x", a)}, {result_of("d/x", b)});
  const TaskComparison& line = outcome.tasks.at("d/x");
  EXPECT_EQ(line.rollouts, 40);
  EXPECT_NEAR(line.score_b - line.score_a, 1, 1e-9);
  EXPECT_NEAR(line.difference_ci95.first, 1, 1e-9);
  EXPECT_EQ(line.probability_b_better, 1);
  EXPECT_EQ(outcome.probability_b_better, 1);
}

TEST(CompareTest, TheSameTwiceIsUndecided) {
  const std::vector<TaskResult> both = {result_of("d/x", {1, 2, 3}), result_of("e/y", {4, 4, 9})};
  const Comparison outcome = compare_results(both, both);
  EXPECT_EQ(outcome.probability_b_better, 0.5);
  EXPECT_EQ(outcome.difference_ci95, (std::pair<double, double>{0, 0}));
  EXPECT_DOUBLE_EQ(outcome.mean_a, (20 + 170.0 / 3) / 2);
}

TEST(CompareTest, NoiseGivesAProbabilityNearItsNormalApproximation) {
  // Differences with mean m and deviation s over n pairs: P(b better) is about Phi(m sqrt(n) / s).
  std::vector<double> a, b;
  Rng rng(5);
  double sum = 0, squares = 0;
  constexpr int kPairs = 200;
  for (int i = 0; i < kPairs; ++i) {
    a.push_back(5 + rng.normal());
    b.push_back(5.1 + rng.normal());
    sum += b.back() - a.back();
    squares += (b.back() - a.back()) * (b.back() - a.back());
  }
  const double mean = sum / kPairs, deviation = std::sqrt(squares / kPairs - mean * mean);
  const double expected = 0.5 * std::erfc(-mean * std::sqrt(kPairs) / deviation / std::sqrt(2.0));
  const Comparison outcome = compare_results({result_of("d/x", a)}, {result_of("d/x", b)}, 4000);
  EXPECT_NEAR(outcome.probability_b_better, expected, 0.03);
}

TEST(CompareTest, OnlyCommonSeedsCountAndWhatIsLeftOutIsNamed) {
  TaskResult other_expert = result_of("d/z", {1, 2});
  other_expert.expert.mean = 11;
  const Comparison outcome = compare_results(
      {result_of("d/x", {1, 2, 3, 4}), result_of("d/a", {1, 1}), result_of("d/z", {1, 2}), result_of("d/w", {1, 2})},
      {result_of("d/x", {9, 9, 9, 9}, 3), result_of("d/b", {1, 1}), other_expert, result_of("d/w", {1, 2}, 100)});
  ASSERT_EQ(outcome.tasks.size(), 1u);
  EXPECT_EQ(outcome.tasks.at("d/x").rollouts, 2);
  EXPECT_DOUBLE_EQ(outcome.tasks.at("d/x").score_a, 35);
  EXPECT_EQ(outcome.left_out.at("d/a"), "is in the first only");
  EXPECT_EQ(outcome.left_out.at("d/b"), "is in the second only");
  EXPECT_NE(outcome.left_out.at("d/z").find("expert"), std::string::npos);
  EXPECT_NE(outcome.left_out.at("d/w").find("same seeds"), std::string::npos);
  EXPECT_THROW(static_cast<void>(compare_results({result_of("d/a", {1, 1})}, {result_of("d/b", {1, 1})})), ConfigError);
}

TEST(CompareTest, WhatHasNoScoreInATableHasNoneHere) {
  const TaskResult plain = result_of("d/plain", {1, 2, 3});
  const auto changed = [&](const char* task, const auto& change) {
    TaskResult result = result_of(task, {1, 2, 3});
    change(result);
    return result;
  };
  const std::vector<TaskResult> both = {
      plain,
      changed("d/chance",
              [](TaskResult& r) {
                r.expert = {0.1, 0.2, 50};
              }),
      changed("d/infinite", [](TaskResult& r) { r.rollouts[1].episode_return = 1e200; }),
      changed("d/unmeasured", [](TaskResult& r) { r.random.episodes = 0; })};
  const Summary table = summarise(both);
  const Comparison outcome = compare_results(both, both);
  for (const auto& [task, line] : table.tasks) EXPECT_EQ(outcome.tasks.contains(task), line.score.has_value()) << task;
  EXPECT_EQ(outcome.tasks.size(), 1u);
  EXPECT_NE(outcome.left_out.at("d/chance").find("not better than random"), std::string::npos);
  // Shards that do not belong together have no score either.
  TaskResult other = result_of("d/x", {4, 5}, 7);
  other.shard = 1;
  other.num_shards = 2;
  EXPECT_NE(compare_results({plain, result_of("d/x", {1, 2}), other}, {plain, result_of("d/x", {1, 2})})
                .left_out.at("d/x")
                .find("differs"),
            std::string::npos);
}

}  // namespace
}  // namespace gato::run
