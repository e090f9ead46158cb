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

}  // namespace
}  // namespace gato::run
