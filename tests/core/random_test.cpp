#include "gato/core/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <set>
#include <vector>

#include "gato/core/error.h"

namespace gato {
namespace {

/// Chi-square of observed counts against equal expectation, as a number of standard deviations above its mean.
double chi_square_deviation(const std::vector<int64_t>& counts) {
  const double total = static_cast<double>(std::accumulate(counts.begin(), counts.end(), int64_t{0}));
  const double expected = total / static_cast<double>(counts.size());
  double chi = 0;
  for (const int64_t count : counts) chi += std::pow(static_cast<double>(count) - expected, 2) / expected;
  const double freedom = static_cast<double>(counts.size() - 1);
  return (chi - freedom) / std::sqrt(2 * freedom);
}

TEST(PhiloxTest, GivesThePublishedAnswers) {
  // Random123 (D. E. Shaw Research), tests/kat_vectors, lines "philox4x32 10".
  using Block = std::array<uint32_t, 4>;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr uint32_t kOnes = 0xffffffff;
  EXPECT_EQ(philox4x32({kOnes, kOnes, kOnes, kOnes}, {kOnes, kOnes}),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// The golden values below were computed by a separate Python program. They are frozen: a change would give every run of
// an earlier version other data.

TEST(RandomTest, SeedMixingIsFrozen) {
  EXPECT_EQ(mix_seed(0, {}), 0x0397ab29740681d9u);
  EXPECT_EQ(mix_seed(0, {0}), 0x0f6043860bcff52du);
  EXPECT_EQ(mix_seed(0, {0, 0}), 0x8ee5382ec83b4b8bu);
  EXPECT_EQ(mix_seed(1, {}), 0xddc1ed05282d1d64u);
  EXPECT_EQ(mix_seed(42, {7, ~uint64_t{0}}), 0x13d5162a3543c059u);
  EXPECT_NE(mix_seed(5, {1, 2}), mix_seed(5, {2, 1}));
}

TEST(RandomTest, NameHashIsFrozen) {
  EXPECT_EQ(hash_name(""), 0xf52a15e9a9b5e89bu);
  EXPECT_EQ(hash_name("a"), 0x02c0bdbf481420f8u);
  EXPECT_EQ(hash_name("noise"), 0x8960bc6da2018bd3u);
  EXPECT_EQ(hash_name("episode"), 0xb8585e8a9c0dbdcfu);
}

TEST(RngTest, StreamIsFrozen) {
  Rng rng(0x0123456789abcdef);
  for (const uint32_t expected : {0xb850222eu, 0xc58cb04bu, 0x14a7a020u, 0x7a84fff9u, 0xadca1466u, 0x523e0d85u}) {
    EXPECT_EQ(rng.next_u32(), expected);
  }
  EXPECT_EQ(Rng(0x0123456789abcdef).uniform(), 0.7716779885161604);
  Rng below(9);
  for (const int64_t expected : {534, 773, 494, 450, 522}) EXPECT_EQ(below.below(1000), expected);
}

TEST(RngTest, NumberDependsOnKeyAndPositionAlone) {
  Rng all(77);
  std::vector<uint32_t> numbers;
  for (int i = 0; i < 40; ++i) numbers.push_back(all.next_u32());
  for (uint64_t start = 0; start < 40; ++start) {
    Rng from(77, start);
    for (size_t i = start; i < 40; ++i) EXPECT_EQ(from.next_u32(), numbers[i]);
  }
  EXPECT_NE(Rng(78).next_u32(), numbers[0]);
}

TEST(RngTest, PositionBeyond32BitsIsAnotherBlock) {
  EXPECT_NE(Rng(1, 0).next_u64(), Rng(1, uint64_t{4} << 32).next_u64());
}

TEST(RngTest, UniformFillsTheUnitInterval) {
  Rng rng(3);
  std::vector<int64_t> counts(100);
  for (int i = 0; i < 200000; ++i) {
    const double u = rng.uniform();
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    ++counts[static_cast<size_t>(u * 100)];
  }
  EXPECT_LT(std::abs(chi_square_deviation(counts)), 5);
}

TEST(RngTest, UniformNeverReachesItsUpperBound) {
  Rng rng(4);
  const double low = 1.0;
  const double high = std::nextafter(1.0, 2.0);
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(rng.uniform(low, high), low);
  EXPECT_EQ(rng.uniform(2.0, 2.0), 2.0);
  EXPECT_THROW(static_cast<void>(rng.uniform(1.0, 0.0)), ContractError);
  EXPECT_THROW(static_cast<void>(rng.uniform(std::nan(""), 0.0)), ContractError);
}

class BelowTest : public testing::TestWithParam<int64_t> {};

TEST_P(BelowTest, IsInRangeAndEven) {
  const int64_t bound = GetParam();
  Rng rng(static_cast<uint64_t>(bound));
  constexpr int64_t kCells = 6;
  std::vector<int64_t> counts(static_cast<size_t>(std::min(bound, kCells)));
  for (int i = 0; i < 60000; ++i) {
    const int64_t value = rng.below(bound);
    ASSERT_GE(value, 0);
    ASSERT_LT(value, bound);
    ++counts[static_cast<size_t>(bound <= kCells ? value : std::min(kCells - 1, value / (bound / kCells)))];
  }
  if (counts.size() > 1) {
    EXPECT_LT(std::abs(chi_square_deviation(counts)), 5);
  }
}

// The largest bounds are where a plain remainder or product would be biased.
INSTANTIATE_TEST_SUITE_P(Bounds, BelowTest,
                         testing::Values(1, 2, 3, 5, 6, 600, 6'000'000, 3 * (int64_t{1} << 61),
                                         std::numeric_limits<int64_t>::max()));

TEST(RngTest, BelowRefusesEmptyRanges) {
  Rng rng(0);
  EXPECT_THROW(static_cast<void>(rng.below(0)), ContractError);
  EXPECT_THROW(static_cast<void>(rng.below(-1)), ContractError);
}

TEST(RngTest, NormalHasTheMomentsOfANormal) {
  Rng rng(5);
  constexpr int kCount = 400000;
  double sum = 0;
  double squares = 0;
  double cubes = 0;
  double fourths = 0;
  int beyond_two = 0;
  for (int i = 0; i < kCount; ++i) {
    const double x = rng.normal();
    ASSERT_TRUE(std::isfinite(x));
    sum += x;
    squares += x * x;
    cubes += x * x * x;
    fourths += x * x * x * x;
    if (std::abs(x) > 2) ++beyond_two;
  }
  const double deviation = 5 / std::sqrt(kCount);
  EXPECT_NEAR(sum / kCount, 0, deviation);
  EXPECT_NEAR(squares / kCount, 1, deviation * std::sqrt(2.0));
  EXPECT_NEAR(cubes / kCount, 0, deviation * std::sqrt(15.0));
  EXPECT_NEAR(fourths / kCount, 3, deviation * std::sqrt(96.0));
  EXPECT_NEAR(static_cast<double>(beyond_two) / kCount, 0.0455, deviation * 0.21);
}

TEST(RngTest, ShuffleGivesEveryOrderAlike) {
  std::map<std::vector<int>, int64_t> orders;
  for (uint64_t key = 0; key < 24000; ++key) {
    std::vector<int> items = {0, 1, 2, 3};
    Rng(mix_seed(6, {key})).shuffle(items);
    ++orders[items];
  }
  ASSERT_EQ(orders.size(), 24u);
  std::vector<int64_t> counts;
  for (const auto& [order, count] : orders) counts.push_back(count);
  EXPECT_LT(std::abs(chi_square_deviation(counts)), 5);
}

TEST(RngTest, ServesStandardAlgorithms) {
  std::vector<int> items(50);
  std::iota(items.begin(), items.end(), 0);
  std::shuffle(items.begin(), items.end(), Rng(1));
  std::sort(items.begin(), items.end());
  for (int i = 0; i < 50; ++i) EXPECT_EQ(items[static_cast<size_t>(i)], i);
}

TEST(KeyedPermutationTest, IsFrozen) {
  const std::vector<uint64_t> expected5 = {6, 8, 4, 9, 1, 5, 2, 0, 3, 7};
  const std::vector<uint64_t> expected6 = {4, 8, 9, 7, 0, 1, 5, 2, 3, 6};
  for (uint64_t i = 0; i < 10; ++i) {
    EXPECT_EQ(KeyedPermutation(10, 5)(i), expected5[i]);
    EXPECT_EQ(KeyedPermutation(10, 6)(i), expected6[i]);
  }
}

TEST(KeyedPermutationTest, TakesEveryValueOnce) {
  std::vector<uint64_t> sizes;
  for (uint64_t size = 1; size <= 300; ++size) sizes.push_back(size);
  sizes.insert(sizes.end(), {1023, 1024, 1025, 4096, 65535, 65536, 65537, 100'003});
  for (const uint64_t size : sizes) {
    const KeyedPermutation permutation(size, size * 31);
    std::vector<bool> seen(size);
    for (uint64_t i = 0; i < size; ++i) {
      const uint64_t value = permutation(i);
      ASSERT_LT(value, size);
      ASSERT_FALSE(seen[value]) << "size " << size << " value " << value;
      seen[value] = true;
    }
  }
}

TEST(KeyedPermutationTest, WorksAtTheLargestSizes) {
  for (const uint64_t size : {uint64_t{1} << 40, (uint64_t{1} << 40) + 1, uint64_t{1} << 63, ~uint64_t{0}}) {
    const KeyedPermutation permutation(size, 9);
    std::set<uint64_t> values;
    for (uint64_t i = 0; i < 1000; ++i) {
      const uint64_t value = permutation(size - 1 - i);
      ASSERT_LT(value, size);
      values.insert(value);
    }
    EXPECT_EQ(values.size(), 1000u);
  }
}

class SmallPermutationTest : public testing::TestWithParam<uint64_t> {};

TEST_P(SmallPermutationTest, KeysGiveEveryOrderAlike) {
  const uint64_t size = GetParam();
  std::map<std::vector<uint64_t>, int64_t> orders;
  int64_t num_orders = 1;
  for (uint64_t i = 2; i <= size; ++i) num_orders *= static_cast<int64_t>(i);
  for (int64_t key = 0; key < 400 * num_orders; ++key) {
    const KeyedPermutation permutation(size, mix_seed(11, {static_cast<uint64_t>(key)}));
    std::vector<uint64_t> order;
    for (uint64_t i = 0; i < size; ++i) order.push_back(permutation(i));
    ++orders[order];
  }
  ASSERT_EQ(static_cast<int64_t>(orders.size()), num_orders);
  std::vector<int64_t> counts;
  for (const auto& [order, count] : orders) counts.push_back(count);
  EXPECT_LT(std::abs(chi_square_deviation(counts)), 5);
}

INSTANTIATE_TEST_SUITE_P(Sizes, SmallPermutationTest, testing::Values(2, 3, 4, 5));

TEST(KeyedPermutationTest, NeighboursAreSpreadEvenly) {
  constexpr uint64_t kSize = 1000;
  std::vector<int64_t> gaps(10);
  for (uint64_t key = 0; key < 100; ++key) {
    const KeyedPermutation permutation(kSize, key);
    for (uint64_t i = 0; i + 1 < kSize; ++i) ++gaps[(permutation(i + 1) + kSize - permutation(i)) % kSize / 100];
  }
  // A gap of 0 cannot occur, so the first cell has 99 of 999.
  EXPECT_LT(std::abs(chi_square_deviation(gaps)), 8);
}

TEST(KeyedPermutationTest, RefusesWhatIsOutside) {
  EXPECT_THROW(KeyedPermutation(0, 1), ContractError);
  EXPECT_THROW(static_cast<void>(KeyedPermutation(5, 1)(5)), ContractError);
}

}  // namespace
}  // namespace gato
