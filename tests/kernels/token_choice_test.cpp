#include "gato/kernels/token_choice.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/random.h"

namespace gato::kernels {
namespace {

std::vector<float> logits_of(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

int32_t sampled(const std::vector<float>& logits, double uniform, double temperature = 1, double top_p = 1) {
  return choose_token({10, static_cast<int32_t>(logits.size()), Choice::kSample, temperature, top_p, uniform}, logits);
}

TEST(TokenChoiceTest, GreedyTakesTheFirstOfTheLikeliest) {
  EXPECT_EQ(choose_token({7, 4, Choice::kGreedy}, std::vector<float>{1, 3, 3, 2}), 8);
}

TEST(TokenChoiceTest, TheUniformNumberWalksThroughTheIdsInOrder) {
  const std::vector<float> logits = logits_of({0.1, 0.2, 0.3, 0.4});
  EXPECT_EQ(sampled(logits, 0), 10);
  EXPECT_EQ(sampled(logits, 0.0999), 10);
  EXPECT_EQ(sampled(logits, 0.1001), 11);
  EXPECT_EQ(sampled(logits, 0.2999), 11);
  EXPECT_EQ(sampled(logits, 0.3001), 12);
  EXPECT_EQ(sampled(logits, 0.6001), 13);
  EXPECT_EQ(sampled(logits, 0.9999), 13);
}

TEST(TokenChoiceTest, TemperatureSharpensAndFlattens) {
  const std::vector<float> logits = logits_of({0.2, 0.8});
  EXPECT_EQ(sampled(logits, 0.19), 10);
  EXPECT_EQ(sampled(logits, 0.19, 0.5), 11);  // 0.04 : 0.64
  EXPECT_EQ(sampled(logits, 0.32, 2), 10);    // 1 : 2
  EXPECT_EQ(sampled(logits, 0.34, 2), 11);
}

TEST(TokenChoiceTest, ANucleusLeavesOutTheUnlikely) {
  const std::vector<float> logits = logits_of({0.1, 0.5, 0.15, 0.25});
  for (double uniform = 0.005; uniform < 1; uniform += 0.01) {
    EXPECT_EQ(sampled(logits, uniform, 1, 0.4), 11);
    EXPECT_EQ(sampled(logits, uniform, 1, 0.7), uniform < 2.0 / 3 ? 11 : 13);
  }
}

TEST(TokenChoiceTest, TheMeanIsOverValuesNotOverIds) {
  std::vector<float> logits(kNumValueBins, -100.0f);
  logits[100] = logits[300] = 5;
  EXPECT_EQ(choose_token({1000, kNumValueBins, Choice::kMean}, logits), 1200);
  logits[300] += std::log(3.0f);
  EXPECT_EQ(choose_token({1000, kNumValueBins, Choice::kMean}, logits), 1250);
}

TEST(TokenChoiceTest, ValuesOfBinsComeBack) {
  for (int32_t bin = 0; bin < kNumValueBins; ++bin) EXPECT_EQ(bin_of_value(value_of_bin(bin)), bin);
  EXPECT_EQ(bin_of_value(-INFINITY), 0);
  EXPECT_EQ(bin_of_value(1), kNumValueBins - 1);
  EXPECT_EQ(bin_of_value(INFINITY), kNumValueBins - 1);
  EXPECT_EQ(bin_of_value(std::nanf("")), 0);
}

TEST(TokenChoiceTest, WhatMakesNoSenseIsRefused) {
  const std::vector<float> logits(4, 1.0f);
  EXPECT_THROW((void)choose_token({0, 3}, logits), ContractError);
  EXPECT_THROW((void)choose_token({0, 0}, std::span<const float>()), ContractError);
  EXPECT_THROW((void)choose_token({0, 4, Choice::kSample, 0}, logits), ContractError);
  EXPECT_THROW((void)choose_token({0, 4, Choice::kSample, std::nan("")}, logits), ContractError);
  EXPECT_THROW((void)choose_token({0, 4, Choice::kMean}, logits), ContractError);
}

}  // namespace
}  // namespace gato::kernels
