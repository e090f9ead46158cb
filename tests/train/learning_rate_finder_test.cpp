#include "gato/train/learning_rate_finder.h"

#include <gtest/gtest.h>

#include <cmath>

#include "gato/core/error.h"
#include "support/synthetic_data.h"

namespace gato::train {
namespace {

using data::test::shared_data;

TrainingConfig small_config() {
  const Path tokenizer = shared_data().folder() / "tokenizer.model";
  write_file_atomic(tokenizer, shared_data().text().model_bytes());
  TrainingConfig config;
  config.tokenizer = {tokenizer.string(), true};
  config.data = shared_data().config(64);
  config.model.layers = 1;
  config.model.width = 32;
  config.model.heads = 2;
  config.model.head_dim = 16;
  config.model.hidden = 64;
  config.model.patch_channels = 8;
  config.train.batch_rows = 4;
  config.train.threads = 2;
  return config;
}

TEST(LearningRateFinderTest, SuggestsARateWithWhichTheLossFalls) {
  int64_t told = 0;
  const LearningRateFindings findings =
      find_learning_rate(small_config(), {.steps = 60}, [&](const LearningRateTrial&) { ++told; });
  EXPECT_EQ(told, static_cast<int64_t>(findings.trials.size()));
  EXPECT_GT(findings.suggested, 1e-5);
  EXPECT_LT(findings.suggested, 0.1);
  EXPECT_LE(findings.suggested, findings.steepest);
  for (size_t i = 1; i < findings.trials.size(); ++i) EXPECT_GT(findings.trials[i].rate, findings.trials[i - 1].rate);
}

TEST(LearningRateFinderTest, JudgesCurves) {
  std::vector<LearningRateTrial> falls, flat;
  for (int i = 0; i < 50; ++i) {
    const double rate = 1e-6 * std::pow(10, 0.12 * i);
    const double x = std::log10(rate) + 3;  // the middle of the fall is at 1e-3, the lowest point at 1e-2
    falls.push_back({rate, 0, 4 - 2 / (1 + std::exp(-6 * x)) + (x > 1 ? 3 * (x - 1) : 0)});
    flat.push_back({rate, 0, 4 + 0.01 * i});
  }
  const LearningRateFindings findings = judge_trials(falls);
  EXPECT_NEAR(std::log10(findings.steepest), -3, 0.2);
  EXPECT_NEAR(std::log10(findings.lowest_at), -2, 0.3);
  EXPECT_NEAR(std::log10(findings.suggested), -3, 0.3);
  EXPECT_EQ(judge_trials(flat).suggested, 0);
  EXPECT_EQ(judge_trials({}).suggested, 0);
}

TEST(LearningRateFinderTest, RefusesSearchesThatMakeNoSense) {
  for (const LearningRateSearch& search : {LearningRateSearch{5, 1e-6, 1}, LearningRateSearch{50, 0, 1},
                                           LearningRateSearch{50, 1, 1}, LearningRateSearch{50, 1, 1000}}) {
    EXPECT_THROW((void)find_learning_rate(small_config(), search), ConfigError);
  }
}

}  // namespace
}  // namespace gato::train
