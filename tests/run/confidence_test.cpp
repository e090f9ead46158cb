#include "gato/run/confidence.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/random.h"

namespace gato::run {
namespace {

TEST(WilsonTest, KnownIntervals) {
  // Solutions of |successes / trials - p| = 1.959964 sqrt(p (1 - p) / trials) by bisection, which is Wilson's
  // definition.
  struct Case {
    int64_t successes, trials;
    double low, high;
  };
  for (const Case& known :
       {Case{0, 10, 0.0, 0.2775328}, Case{5, 10, 0.2365931, 0.7634069}, Case{10, 10, 0.7224672, 1.0},
        Case{45, 50, 0.7863977, 0.9565242}, Case{1, 1, 0.2065493, 1.0}}) {
    const auto [low, high] = wilson_ci95(known.successes, known.trials);
    EXPECT_NEAR(low, known.low, 1e-6) << known.successes << "/" << known.trials;
    EXPECT_NEAR(high, known.high, 1e-6) << known.successes << "/" << known.trials;
  }
  EXPECT_EQ(wilson_ci95(0, 7).first, 0.0);
  EXPECT_EQ(wilson_ci95(7, 7).second, 1.0);
  EXPECT_THROW(static_cast<void>(wilson_ci95(0, 0)), ContractError);
  EXPECT_THROW(static_cast<void>(wilson_ci95(3, 2)), ContractError);
}

TEST(BootstrapTest, EqualValuesHaveNoSpread) {
  const std::vector<double> values(50, 2.5);
  EXPECT_EQ(bootstrap_mean_ci95(values, 1), std::make_pair(2.5, 2.5));
  EXPECT_EQ(bootstrap_mean_ci95(std::vector{7.0}, 1), std::make_pair(7.0, 7.0));
}

TEST(BootstrapTest, TwoValuesGiveTheirRange) {
  // A mean of two draws is 0, 1/2 or 1 with probabilities 1/4, 1/2, 1/4, so both quantiles are at the ends.
  EXPECT_EQ(bootstrap_mean_ci95(std::vector{0.0, 1.0}, 3), std::make_pair(0.0, 1.0));
}

TEST(BootstrapTest, AgreesWithTheBinomialDistribution) {
  // Of 20 zeros and 20 ones the bootstrap mean is Binomial(40, 1/2) / 40, whose 2.5 and 97.5 percentiles are 14/40 and
  // 26/40. With 100 000 resamples the percentiles are exact: the distribution function at 13 is 0.0192, at 14 0.0403.
  std::vector<double> values(40, 0.0);
  std::fill(values.begin() + 20, values.end(), 1.0);
  const auto [low, high] = bootstrap_mean_ci95(values, 5, 100'000);
  EXPECT_DOUBLE_EQ(low, 14.0 / 40);
  EXPECT_DOUBLE_EQ(high, 26.0 / 40);
}

TEST(BootstrapTest, AgreesWithTheNormalApproximation) {
  Rng random(11);
  std::vector<double> values(400);
  double sum = 0;
  for (double& value : values) sum += value = 10 + 3 * random.normal();
  const double mean = sum / 400;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  const double half = 1.96 * std::sqrt(squares / 400 / 400);
  const auto [low, high] = bootstrap_mean_ci95(values, 7);
  EXPECT_NEAR(low, mean - half, 0.12 * half);
  EXPECT_NEAR(high, mean + half, 0.12 * half);
}

TEST(BootstrapTest, IsAFunctionOfItsArguments) {
  const std::vector<double> values = {1, 5, 2, 8, 3, 9, 4};
  EXPECT_EQ(bootstrap_mean_ci95(values, 1), bootstrap_mean_ci95(values, 1));
  EXPECT_NE(bootstrap_mean_ci95(values, 1, 101), bootstrap_mean_ci95(values, 2, 101));
  EXPECT_THROW(static_cast<void>(bootstrap_mean_ci95({}, 1)), ContractError);
  EXPECT_THROW(static_cast<void>(bootstrap_mean_ci95(std::vector{std::nan("")}, 1)), ContractError);
}

TEST(BootstrapTest, CoversTheTruthAboutAsOftenAsItSays) {
  int covered = 0;
  constexpr int kTrials = 400;
  for (int trial = 0; trial < kTrials; ++trial) {
    Rng random(mix_seed(99, {static_cast<uint64_t>(trial)}));
    std::vector<double> values(50);
    for (double& value : values) value = random.uniform();
    const auto [low, high] = bootstrap_mean_ci95(values, static_cast<uint64_t>(trial), 500);
    covered += low <= 0.5 && 0.5 <= high;
  }
  EXPECT_GT(covered, kTrials * 0.91);
  EXPECT_LT(covered, kTrials * 0.98);
}

}  // namespace
}  // namespace gato::run
