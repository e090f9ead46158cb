#include "gato/tokenizer/numbers.h"

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include <gtest/gtest.h>

#include "gato/core/error.h"
#include "gato/core/file.h"
#include "gato/core/random.h"

namespace gato::tokenizer {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// The tables of the paper's rules, derived by hand: mu = 100, M = 256, 1024 bins.
TEST(NumbersTest, MuLawHasGoldenValues) {
  EXPECT_EQ(mu_law(0), 0);
  EXPECT_NEAR(mu_law(1e-4), 0.00098029, 5e-9);
  EXPECT_NEAR(mu_law(0.01), 0.06828776, 5e-9);
  EXPECT_NEAR(mu_law(-0.01), -0.06828776, 5e-9);
  EXPECT_NEAR(mu_law(0.1), 0.23623684, 5e-9);
  EXPECT_NEAR(mu_law(1), 0.45467435, 5e-9);
  EXPECT_NEAR(mu_law(-1), -0.45467435, 5e-9);
  EXPECT_NEAR(mu_law(10), 0.68063956, 5e-9);
  EXPECT_NEAR(mu_law(100), 0.90739798, 5e-9);
  EXPECT_NEAR(mu_law(256), 1, 1e-15);
}

TEST(NumbersTest, InverseMuLawInverts) {
  for (const double x : {0.0, 1e-9, 1e-4, -0.01, 0.1, -1.0, 10.0, -100.0, 256.0}) {
    EXPECT_NEAR(inverse_mu_law(mu_law(x)), x, 1e-13 * std::abs(x) + 1e-17) << x;
  }
}

TEST(NumbersTest, ObservationBinsHaveGoldenValues) {
  const Vocabulary vocabulary(32000, false);
  const std::vector<std::pair<float, int32_t>> golden = {
      {0.0f, 32512},   {1e-4f, 32512}, {0.01f, 32546},     {-0.01f, 32477},     {0.1f, 32632},    {1.0f, 32744},
      {-1.0f, 32279},  {10.0f, 32860}, {100.0f, 32976},    {256.0f, 33023},     {-256.0f, 32000}, {1e30f, 33023},
      {-1e30f, 32000}, {-0.0f, 32512}, {kInfinity, 33023}, {-kInfinity, 32000}, {250.8f, 33022}};
  for (const auto& [value, id] : golden) EXPECT_EQ(vocabulary.bin_id(observation_bin(value)), id) << value;
}

TEST(NumbersTest, ActionBinsHaveGoldenValues) {
  const Vocabulary vocabulary(32000, false);
  const std::vector<std::pair<float, int32_t>> golden = {
      {-1.0f, 32000}, {-0.5f, 32256}, {0.0f, 32512}, {0.5f, 32768},      {0.999f, 33023},
      {1.0f, 33023},  {-7.0f, 32000}, {7.0f, 33023}, {kInfinity, 33023}, {-kInfinity, 32000}};
  for (const auto& [value, id] : golden) EXPECT_EQ(vocabulary.bin_id(action_bin(value)), id) << value;
}

TEST(NumbersTest, NanHasNoBin) {
  for (const float nan : {kNan, -kNan, std::bit_cast<float>(0x7f800001u), std::bit_cast<float>(0xffffffffu)}) {
    EXPECT_EQ(observation_bin(nan), -1);
    EXPECT_EQ(observation_bin_by_formula(nan), -1);
    EXPECT_EQ(action_bin(nan), -1);
    EXPECT_EQ(action_bin(normalize_action(nan, 0, 1)), -1);
  }
}

TEST(NumbersTest, FirstBinAboveZeroEndsAt2e4) {
  EXPECT_EQ(observation_bin(1.9e-4f), 512);
  EXPECT_EQ(observation_bin(2.1e-4f), 513);
}

TEST(NumbersTest, ThresholdsAreStrictlyIncreasing) {
  const auto table = observation_thresholds();
  for (size_t i = 1; i < table.size(); ++i) EXPECT_LT(table[i - 1], table[i]) << i;
}

TEST(NumbersTest, ThresholdsAreTheSmallestFloatsOfTheirBins) {
  const auto table = observation_thresholds();
  for (size_t i = 0; i < table.size(); ++i) {
    const float below = std::nextafter(table[i], -kInfinity);
    const auto bin = static_cast<int32_t>(i) + 1;
    EXPECT_EQ(observation_bin(table[i]), bin);
    EXPECT_EQ(observation_bin(below), bin - 1);
    EXPECT_EQ(observation_bin_by_formula(table[i]), bin);
    EXPECT_EQ(observation_bin_by_formula(below), bin - 1);
  }
}

// The exact thresholds ((25601^|y| - 1) / 100 for y = 2 bin / 1024 - 1) keep a distance from every float that is far
// above the error of any mathematics library in double precision, so the table is the same on every machine.
TEST(NumbersTest, ThresholdsDoNotDependOnTheMathematicsLibrary) {
  const auto table = observation_thresholds();
  for (size_t i = 0; i < table.size(); ++i) {
    if (i == 511) continue;  // 0: what lies within 5.6e-18 of it rounds to it in double precision
    const long double y = 2.0L * static_cast<long double>(i + 1) / 1024 - 1;
    const long double exact = std::copysign(std::expm1(std::abs(y) * std::log1p(25600.0L)) / 100, y);
    const auto above = static_cast<long double>(table[i]);
    const auto below = static_cast<long double>(std::nextafter(table[i], -kInfinity));
    ASSERT_GT(above, exact) << i;
    ASSERT_LT(below, exact) << i;
    EXPECT_GT(std::min(above - exact, exact - below) / std::abs(exact), 1e-12L) << i;
  }
  EXPECT_EQ(digest128(std::as_bytes(table)), "70dea2e17727b50267c2651b8947b67a");
}

TEST(NumbersTest, EveryStridedFloatAgreesByAllThreeWays) {
  double last = 0;
  const NumberCheck check = check_all_floats([&](double share) { last = share; }, 4099);
  EXPECT_EQ(check.mismatches, 0u) << check.first_mismatch;
  EXPECT_EQ(check.checked, ((uint64_t{1} << 32) + 4098) / 4099);
  EXPECT_EQ(last, 1);
}

TEST(NumbersTest, EveryFloatNearThresholdsAndCellsAgrees) {
  std::vector<float> values;
  for (const float threshold : observation_thresholds()) {
    float below = threshold, above = threshold;
    for (int i = 0; i < 20; ++i) {
      values.push_back(below = std::nextafter(below, -kInfinity));
      values.push_back(above = std::nextafter(above, kInfinity));
    }
  }
  for (uint32_t bits = 0; bits < 0x7f800000u; bits += 1u << 17) {  // borders of the fast path's cells
    for (const uint32_t near : {bits, bits + 1, bits == 0 ? 0 : bits - 1}) {
      values.push_back(std::bit_cast<float>(near));
      values.push_back(std::bit_cast<float>(near | 0x80000000u));
    }
  }
  std::vector<int32_t> ids(values.size());
  EXPECT_EQ(observation_ids(values, 0, ids), -1);
  for (size_t i = 0; i < values.size(); ++i) {
    ASSERT_EQ(ids[i], observation_bin_by_formula(values[i])) << values[i];
    ASSERT_EQ(ids[i], observation_bin(values[i])) << values[i];
  }
}

TEST(NumbersTest, ObservationIdsAddTheFirstIdAndReportTheFirstNan) {
  const std::vector<float> values = {0, 1, kNan, 2, kNan};
  std::vector<int32_t> ids(values.size());
  EXPECT_EQ(observation_ids(values, 1000, ids), 2);
  EXPECT_EQ(observation_ids(std::span(values).first(2), 1000, std::span(ids).first(2)), -1);
  EXPECT_EQ(ids[0], 1512);
  EXPECT_EQ(ids[1], 1744);
  EXPECT_EQ(observation_ids({}, 0, {}), -1);
  EXPECT_THROW(observation_ids(values, 0, std::span(ids).first(3)), ContractError);
}

TEST(NumbersTest, BinCentresComeBackToTheirBins) {
  for (int32_t bin = 0; bin < kNumBins; ++bin) {
    EXPECT_EQ(observation_bin(observation_value(bin)), bin);
    EXPECT_EQ(action_bin(action_value(bin)), bin);
  }
  EXPECT_THROW(static_cast<void>(observation_value(-1)), ContractError);
  EXPECT_THROW(static_cast<void>(action_value(1024)), ContractError);
}

TEST(NumbersTest, ActionBoundsMapToTheEnds) {
  EXPECT_EQ(normalize_action(-2, -2, 6), -1);
  EXPECT_EQ(normalize_action(6, -2, 6), 1);
  EXPECT_EQ(normalize_action(2, -2, 6), 0);
  EXPECT_EQ(denormalize_action(-1, -2, 6), -2);
  EXPECT_EQ(denormalize_action(1, -2, 6), 6);
  EXPECT_EQ(denormalize_action(0.5f, -2, 6), 4);
  const float huge = std::numeric_limits<float>::max();
  EXPECT_EQ(normalize_action(huge, -huge, huge), 1);
  EXPECT_EQ(denormalize_action(1, -huge, huge), huge);
  EXPECT_EQ(action_bin(normalize_action(100, -2, 6)), 1023);
  EXPECT_EQ(action_bin(normalize_action(kInfinity, -2, 6)), 1023);
  EXPECT_EQ(action_bin(normalize_action(-kInfinity, -2, 6)), 0);
}

struct Bounds {
  float low, high;
};

class ActionBoundsTest : public testing::TestWithParam<Bounds> {};

// Also where a bin is narrower than the distance of the floats around it: then most bins hold no float, those that do
// hold one must give it back.
TEST_P(ActionBoundsTest, EveryBinThatHoldsAFloatComesBack) {
  const auto [low, high] = GetParam();
  Rng rng(mix_seed(7, {std::bit_cast<uint32_t>(low), std::bit_cast<uint32_t>(high)}));
  for (int i = 0; i < 20000; ++i) {
    const auto value = std::clamp(static_cast<float>(rng.uniform(low, high)), low, high);
    const int32_t bin = action_bin(normalize_action(value, low, high));
    ASSERT_GE(bin, 0);
    const float back = bin_to_action(bin, low, high);
    ASSERT_GE(back, low);
    ASSERT_LE(back, high);
    ASSERT_EQ(action_bin(normalize_action(back, low, high)), bin) << value;
  }
}

INSTANTIATE_TEST_SUITE_P(Bounds, ActionBoundsTest,
                         testing::Values(Bounds{-1, 1}, Bounds{-2, 2}, Bounds{0, 1}, Bounds{-0.4f, 0.4f},
                                         Bounds{0, 1e-30f}, Bounds{8192, 8193}, Bounds{1000, 1000.001f},
                                         Bounds{-8193, -8192}, Bounds{1, 1.0000001f}, Bounds{-3e38f, 3e38f},
                                         Bounds{0, 1e-44f}, Bounds{16777216, 16777218}),
                         [](const auto& test) { return cat("Case", test.index); });

}  // namespace
}  // namespace gato::tokenizer
