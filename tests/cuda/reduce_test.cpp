#include "kernels/cuda/reduce.h"

#include "cuda/kernel_test.h"
#include "gato/core/error.h"

namespace gato::kernel_tests {
namespace {

using namespace kernels::cuda;

struct Case {
  Element element;
  int64_t rows, width;
  size_t offset = 0;
};

std::string name_of(const Case& c) {
  return cat(element_name(c.element), "_", c.rows, "x", c.width, c.offset > 0 ? "_misaligned" : "");
}

std::vector<float> run_column_sums(TestDevice& device, const Case& c, const std::vector<float>& x,
                                   const std::vector<float>& before) {
  const Typed device_x(device, c.element, "x", x, c.offset);
  const auto totals = device.buffer("totals", before);
  const auto workspace = device.buffer<std::byte>("workspace", column_sums_workspace(c.rows, c.width));
  add_column_sums({c.element, c.rows, c.width, device_x.data(), totals.data(), workspace.data()}, nullptr);
  return totals.download();
}

class ColumnSumsTest : public testing::TestWithParam<Case> {};

TEST_P(ColumnSumsTest, AddsToTheTotals) {
  const Case& c = GetParam();
  const std::vector<float> x = rounded(c.element, normal_values(c.rows * c.width, 1));
  const std::vector<float> before = normal_values(c.width, 2);
  std::vector<double> expected = widened(before);
  for (size_t i = 0; i < x.size(); ++i) expected[i % static_cast<size_t>(c.width)] += static_cast<double>(x[i]);
  TestDevice device;
  const double terms = std::sqrt(static_cast<double>(c.rows) + 1);
  EXPECT_TRUE(all_close(run_column_sums(device, c, x, before), expected, tolerance_of(Element::kFloat32).times(terms)));
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Element element : {Element::kFloat32, Element::kBFloat16}) {
    for (const int64_t width : {0, 1, 31, 33, 541, 256, 1536}) all.push_back({element, 33, width});
    for (const int64_t rows : {0, 1, 31, 541, 2000}) all.push_back({element, rows, 16});
    all.push_back({element, 70, 64, 1});
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Shapes, ColumnSumsTest, testing::ValuesIn(cases()),
                         [](const auto& test) { return name_of(test.param); });

TEST(ColumnSumsOrder, BlocksInAnyOrderGiveTheSameBits) {
  const Case c{Element::kBFloat16, 300, 520};
  const std::vector<float> x = normal_values(c.rows * c.width, 1);
  const std::vector<float> before = normal_values(c.width, 2);
  expect_same_bits_in_any_order(
      [&](TestDevice& device) { return std::vector<std::vector<float>>{run_column_sums(device, c, x, before)}; });
}

TEST(ColumnSumsCounters, ReadsEachElementOnceAndSide) {
  const Case c{Element::kBFloat16, 256, 1024};
  TestDevice device;
  run_column_sums(device, c, normal_values(c.rows * c.width, 1), std::vector<float>(1024, 0.0f));
  const auto counters = device.counters("column_sums");
  EXPECT_EQ(counters.global_bytes_read, 256u * 1024 * 2);
  EXPECT_LE(counters.sector_factor(), 1.05);
  EXPECT_EQ(counters.conflict_factor(), 1.0);
  EXPECT_EQ(device.counters("fold_partial_sums").sector_factor(), 1.0);
}

TEST(PartialSumsTest, TwoArraysOrOne) {
  const std::vector<float> partial = normal_values(5 * 70, 1);
  TestDevice device;
  const auto device_partial = device.input("partial", partial);
  const auto first = device.buffer("first", std::vector<float>(33, 1.0f));
  const auto second = device.buffer("second", std::vector<float>(33, 2.0f));
  fold_partial_sums({device_partial.data(), 5, 70, 33, first.data(), second.data()}, nullptr);
  fold_partial_sums({device_partial.data(), 5, 70, 33, nullptr, second.data()}, nullptr);
  std::vector<double> sums(33, 1.0), twice(33, 2.0);
  for (size_t part = 0; part < 5; ++part) {
    for (size_t i = 0; i < 33; ++i) {
      sums[i] += static_cast<double>(partial[part * 70 + i]);
      twice[i] += 2 * static_cast<double>(partial[part * 70 + 33 + i]);
    }
  }
  EXPECT_TRUE(all_close(first.download(), sums, tolerance_of(Element::kFloat32)));
  EXPECT_TRUE(all_close(second.download(), twice, tolerance_of(Element::kFloat32)));
}

double norm_of(TestDevice& device, const std::vector<float>& values, size_t offset = 0) {
  const Typed x(device, Element::kFloat32, "x", values, offset);
  const auto norm = device.buffer<double>("norm", 1);
  const auto count = static_cast<int64_t>(values.size());
  const auto workspace = device.buffer<std::byte>("workspace", squared_norm_workspace(count));
  squared_norm({count, x.floats(), norm.data(), workspace.data()}, nullptr);
  return norm.download()[0];
}

TEST(SquaredNormTest, IsThatOfDoubles) {
  for (const int64_t count : {0, 1, 3, 31, 33, 541, 5000, 70001}) {
    const std::vector<float> values = normal_values(count, 1, 1e-3);
    double expected = 0;
    for (const float value : values) expected += static_cast<double>(value) * static_cast<double>(value);
    TestDevice device;
    EXPECT_NEAR(norm_of(device, values), expected, 1e-13 * expected) << count;
    EXPECT_NEAR(norm_of(device, values, 1), expected, 1e-13 * expected) << count << " misaligned";
  }
}

TEST(SquaredNormTest, IsNotFiniteWhenAnElementIs) {
  for (const float bad : {NAN, INFINITY, -INFINITY}) {
    std::vector<float> values(1000, 1.0f);
    values[997] = bad;
    TestDevice device;
    EXPECT_FALSE(std::isfinite(norm_of(device, values)));
  }
}

TEST(SquaredNormTest, BlocksInAnyOrderGiveTheSameBits) {
  const std::vector<float> values = normal_values(50001, 1);
  expect_same_bits_in_any_order([&](TestDevice& device) {
    const auto bits = std::bit_cast<uint64_t>(norm_of(device, values));
    return std::vector<std::vector<float>>{
        {std::bit_cast<float>(static_cast<uint32_t>(bits)), std::bit_cast<float>(static_cast<uint32_t>(bits >> 32))}};
  });
}

TEST(WeightedSumTest, AddsInDouble) {
  for (const int64_t count : {0, 1, 33, 541, 3000}) {
    const std::vector<float> loss = uniform_values(count, 1);
    const std::vector<float> weights = uniform_values(count, 2);
    double expected = 10;
    for (size_t i = 0; i < loss.size(); ++i) expected += static_cast<double>(loss[i]) * static_cast<double>(weights[i]);
    TestDevice device;
    const auto device_loss = device.input("loss", loss);
    const auto device_weights = device.input("weights", weights);
    const auto total = device.buffer("total", std::vector<double>{10.0});
    add_weighted_sum({count, device_loss.data(), device_weights.data(), total.data()}, nullptr);
    EXPECT_NEAR(total.download()[0], expected, 1e-13 * expected) << count;
  }
}

TEST(ReduceArguments, AreChecked) {
  TestDevice device;
  const auto some = device.buffer("some", std::vector<float>(8, 1.0f));
  float* p = some.data();
  EXPECT_THROW(add_column_sums({Element::kFloat16, 1, 4, p, p, p}, nullptr), ContractError);
  EXPECT_THROW(add_column_sums({Element::kFloat32, -1, 4, p, p, p}, nullptr), ContractError);
  EXPECT_THROW(add_column_sums({Element::kFloat32, 1, 4, nullptr, p, p}, nullptr), ContractError);
  EXPECT_THROW(add_column_sums({Element::kFloat32, 1, 4, p, nullptr, p}, nullptr), ContractError);
  EXPECT_THROW(add_column_sums({Element::kFloat32, 1, 4, p, p, nullptr}, nullptr), ContractError);
  EXPECT_THROW(fold_partial_sums({p, 2, 4, 4, p, p}, nullptr), ContractError);  // two arrays need twice the stride
  EXPECT_THROW(squared_norm({4, nullptr, reinterpret_cast<double*>(p), p}, nullptr), ContractError);
  EXPECT_THROW(squared_norm({4, p, nullptr, p}, nullptr), ContractError);
  EXPECT_THROW(squared_norm({4, p, reinterpret_cast<double*>(p), nullptr}, nullptr), ContractError);
  EXPECT_THROW(add_weighted_sum({4, p, p, nullptr}, nullptr), ContractError);
}

}  // namespace
}  // namespace gato::kernel_tests
