#include "kernels/cuda/rows.h"

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

/// Every third row or so, ascending.
std::vector<int64_t> some_positions(int64_t rows) {
  std::vector<int64_t> positions;
  Rng rng(9);
  for (int64_t row = 0; row < rows; ++row) {
    if (rng.below(3) == 0) positions.push_back(row);
  }
  return positions;
}

std::vector<float> run_gather(TestDevice& device, const Case& c, const std::vector<float>& x,
                              const std::vector<int64_t>& positions) {
  const Typed from(device, c.element, "from", x, c.offset);
  const auto device_positions = device.input("positions", positions);
  const Typed to(device, c.element, "to", positions.size() * static_cast<size_t>(c.width), c.offset);
  gather_rows({c.element, c.rows, c.width, static_cast<int64_t>(positions.size()), from.data(), device_positions.data(),
               to.data()},
              nullptr);
  return to.download();
}

std::vector<float> run_scatter(TestDevice& device, const Case& c, const std::vector<float>& x,
                               const std::vector<int64_t>& positions) {
  const Typed from(device, c.element, "from", x, c.offset);
  const auto device_positions = device.input("positions", positions);
  const Typed to(device, c.element, "to", static_cast<size_t>(c.rows * c.width), c.offset);
  scatter_rows({c.element, c.rows, c.width, static_cast<int64_t>(positions.size()), from.data(),
                device_positions.data(), to.data()},
               nullptr);
  return to.download();
}

class Rows : public testing::TestWithParam<Case> {};

TEST_P(Rows, AreGatheredAndScattered) {
  const Case& c = GetParam();
  const auto width = static_cast<size_t>(c.width);
  const std::vector<float> x = rounded(c.element, normal_values(c.rows * c.width, 1));
  const std::vector<int64_t> positions = some_positions(c.rows);
  std::vector<float> gathered, scattered(x.size(), 0.0f);
  for (const int64_t position : positions) {
    const auto begin = static_cast<size_t>(position) * width;
    for (size_t i = begin; i < begin + width; ++i) {
      gathered.push_back(x[i]);
      scattered[i] = x[i];
    }
  }
  TestDevice device;
  EXPECT_EQ(run_gather(device, c, x, positions), gathered);
  EXPECT_EQ(run_scatter(device, c, gathered, positions), scattered);
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Element element : {Element::kFloat32, Element::kBFloat16, Element::kFloat16}) {
    for (const int64_t width : {0, 1, 2, 31, 33, 541, 64, 768}) all.push_back({element, 10, width});
    for (const int64_t rows : {0, 1, 33, 541}) all.push_back({element, rows, 8});
    all.push_back({element, 12, 64, 1});
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Shapes, Rows, testing::ValuesIn(cases()),
                         [](const auto& test) { return name_of(test.param); });

TEST(RowsOutside, GatherGivesNanAndScatterLeavesThemOut) {
  for (const Element element : {Element::kFloat32, Element::kBFloat16, Element::kFloat16}) {
    const Case c{element, 4, 24};
    const std::vector<float> x = rounded(element, normal_values(4 * 24, 1));
    TestDevice device;
    const std::vector<float> gathered = run_gather(device, c, x, {-1, 3, 4, int64_t{1} << 50});
    for (size_t i = 0; i < gathered.size(); ++i) {
      if (i / 24 == 1) {
        EXPECT_EQ(gathered[i], x[3 * 24 + i % 24]);
      } else {
        EXPECT_TRUE(std::isnan(gathered[i])) << element_name(element) << " " << i;
      }
    }
    const std::vector<float> scattered = run_scatter(device, c, x, {-1, 2, 4, 5});
    for (size_t i = 0; i < scattered.size(); ++i) EXPECT_EQ(scattered[i], i / 24 == 2 ? x[24 + i % 24] : 0.0f);
  }
}

TEST(RowsOrder, BlocksInAnyOrderGiveTheSameBits) {
  const Case c{Element::kBFloat16, 40, 100};
  const std::vector<float> x = normal_values(40 * 100, 1);
  const std::vector<int64_t> positions = some_positions(40);
  expect_same_bits_in_any_order([&](TestDevice& device) {
    const std::vector<float> gathered = run_gather(device, c, x, positions);
    return std::vector<std::vector<float>>{gathered, run_scatter(device, c, gathered, positions)};
  });
}

TEST(RowsCounters, CopyFullSectors) {
  const Case c{Element::kBFloat16, 64, 768};
  TestDevice device;
  const std::vector<int64_t> positions = some_positions(64);
  run_scatter(device, c, run_gather(device, c, normal_values(64 * 768, 1), positions), positions);
  EXPECT_LE(device.counters("gather_rows").sector_factor(), 1.01);
  EXPECT_LE(device.counters("scatter_rows").sector_factor(), 1.01);
  EXPECT_EQ(device.counters("scatter_rows").global_bytes_written, 64u * 768 * 2);
}

class Bias : public testing::TestWithParam<Case> {};

TEST_P(Bias, IsAddedOrFilledIn) {
  const Case& c = GetParam();
  const std::vector<float> x = rounded(c.element, normal_values(c.rows * c.width, 1));
  const std::vector<float> bias = normal_values(c.width, 2);
  std::vector<float> sums, filled;
  for (size_t i = 0; i < x.size(); ++i) {
    const float b = bias[i % static_cast<size_t>(c.width)];
    sums.push_back(x[i] + b);
    filled.push_back(b);
  }
  TestDevice device;
  const Typed device_bias(device, Element::kFloat32, "bias", bias, c.offset);
  const Typed y(device, c.element, "y", x, c.offset);
  add_bias({c.element, c.rows, c.width, device_bias.floats(), y.data()}, nullptr);
  EXPECT_EQ(y.download(), rounded(c.element, sums));
  const Typed fresh(device, c.element, "fresh", x.size(), c.offset);
  add_bias({c.element, c.rows, c.width, device_bias.floats(), fresh.data(), false}, nullptr);
  EXPECT_EQ(fresh.download(), rounded(c.element, filled));
}

std::vector<Case> bias_cases() {
  std::vector<Case> all;
  for (const Element element : {Element::kFloat32, Element::kBFloat16}) {
    for (const int64_t width : {0, 1, 31, 33, 541, 1536}) all.push_back({element, 3, width});
    for (const int64_t rows : {0, 1, 17, 100}) all.push_back({element, rows, 16});
    all.push_back({element, 5, 64, 1});
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Shapes, Bias, testing::ValuesIn(bias_cases()),
                         [](const auto& test) { return name_of(test.param); });

TEST(RowsArguments, AreChecked) {
  TestDevice device;
  const auto some = device.buffer("some", std::vector<float>(16, 1.0f));
  const auto positions = device.input("positions", std::vector<int64_t>{0});
  float* p = some.data();
  const Element f = Element::kFloat32;
  EXPECT_THROW(gather_rows({f, -1, 4, 1, p, positions.data(), p}, nullptr), ContractError);
  EXPECT_THROW(gather_rows({f, 1, -4, 1, p, positions.data(), p}, nullptr), ContractError);
  EXPECT_THROW(gather_rows({f, 1, 4, 1, nullptr, positions.data(), p}, nullptr), ContractError);
  EXPECT_THROW(gather_rows({f, 1, 4, 1, p, nullptr, p}, nullptr), ContractError);
  EXPECT_THROW(gather_rows({f, 1, 4, 1, p, positions.data(), nullptr}, nullptr), ContractError);
  EXPECT_THROW(scatter_rows({f, 1, 4, 1, nullptr, positions.data(), p}, nullptr), ContractError);
  EXPECT_THROW(scatter_rows({f, 1, 4, 1, p, nullptr, p}, nullptr), ContractError);
  EXPECT_THROW(scatter_rows({f, 1, 4, 1, p, positions.data(), nullptr}, nullptr), ContractError);
  EXPECT_THROW(add_bias({Element::kFloat16, 1, 4, p, p}, nullptr), ContractError);
  EXPECT_THROW(add_bias({f, 1, 4, nullptr, p}, nullptr), ContractError);
  EXPECT_THROW(add_bias({f, 1, 4, p, nullptr}, nullptr), ContractError);
}

}  // namespace
}  // namespace gato::kernel_tests
