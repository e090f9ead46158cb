#include "kernels/cuda/geglu.h"

#include "cuda/kernel_test.h"
#include "gato/core/error.h"

namespace gato::kernel_tests {
namespace {

using namespace kernels::cuda;

struct Case {
  Element element;
  int64_t rows, half;
  size_t offset = 0;  // elements by which the arrays are misaligned
};

std::string name_of(const Case& c) {
  return cat(element_name(c.element), "_", c.rows, "x", c.half, c.offset > 0 ? "_misaligned" : "");
}

struct Results {
  std::vector<float> y, dx;
};

Results run(TestDevice& device, const Case& c, const std::vector<float>& x, const std::vector<float>& dy) {
  const Typed device_x(device, c.element, "x", x, c.offset);
  const Typed device_dy(device, c.element, "dy", dy, c.offset);
  const Typed y(device, c.element, "y", dy.size(), c.offset);
  const Typed dx(device, c.element, "dx", x.size(), c.offset);
  geglu_forward({c.element, c.rows, c.half, device_x.data(), y.data()}, nullptr);
  geglu_backward({c.element, c.rows, c.half, device_x.data(), device_dy.data(), dx.data()}, nullptr);
  return {y.download(), dx.download()};
}

struct Expected {
  std::vector<double> y, dx;
};

Expected reference(const Case& c, const std::vector<double>& x, const std::vector<float>& dy) {
  Expected e{{}, std::vector<double>(x.size())};
  const auto half = static_cast<size_t>(c.half);
  for (size_t row = 0; row < static_cast<size_t>(c.rows); ++row) {
    for (size_t gate = row * 2 * half; gate < row * 2 * half + half; ++gate) {
      const double g = x[gate];
      const double v = x[gate + half];
      const double cdf = 0.5 * std::erfc(-g / std::sqrt(2.0));
      const double density = std::exp(-0.5 * g * g) / std::sqrt(2 * M_PI);
      const auto d = static_cast<double>(dy[e.y.size()]);
      e.y.push_back(g * cdf * v);
      e.dx[gate] = d * v * (cdf + g * density);
      e.dx[gate + half] = d * g * cdf;
    }
  }
  return e;
}

TEST(GegluReference, HasTheGradientsOfFiniteDifferences) {
  const Case c{Element::kFloat32, 2, 5};
  std::vector<double> x = widened(normal_values(20, 1));
  const std::vector<float> dy = normal_values(10, 2);
  const auto objective = [&] {
    const Expected e = reference(c, x, dy);
    double total = 0;
    for (size_t i = 0; i < dy.size(); ++i) total += e.y[i] * static_cast<double>(dy[i]);
    return total;
  };
  const Expected e = reference(c, x, dy);
  for (size_t i = 0; i < x.size(); ++i) {
    const double value = x[i];
    x[i] = value + 1e-5;
    const double above = objective();
    x[i] = value - 1e-5;
    const double below = objective();
    x[i] = value;
    EXPECT_NEAR((above - below) / 2e-5, e.dx[i], 1e-8) << i;
  }
}

class Geglu : public testing::TestWithParam<Case> {};

TEST_P(Geglu, AgreesWithReference) {
  const Case& c = GetParam();
  const std::vector<float> x = rounded(c.element, normal_values(c.rows * 2 * c.half, 1, 2));
  const std::vector<float> dy = rounded(c.element, normal_values(c.rows * c.half, 2));
  const Expected expected = reference(c, widened(x), dy);
  TestDevice device;
  const Results results = run(device, c, x, dy);
  EXPECT_TRUE(all_close(results.y, expected.y, tolerance_of(c.element)));
  EXPECT_TRUE(all_close(results.dx, expected.dx, tolerance_of(c.element)));
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Element element : {Element::kFloat32, Element::kBFloat16}) {
    for (const int64_t half : {0, 1, 31, 33, 541, 8, 128, 1024, 3072}) all.push_back({element, 3, half});
    for (const int64_t rows : {0, 1, 33, 541}) all.push_back({element, rows, 16});
    all.push_back({element, 3, 64, 1});
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Shapes, Geglu, testing::ValuesIn(cases()),
                         [](const auto& test) { return name_of(test.param); });

TEST(GegluValues, FarFromZeroAreThoseOfTheGateAlone) {
  const std::vector<float> x{40, -40, INFINITY, 0, 2, 3, 5, 7};  // one row: four gates, four values
  TestDevice device;
  const Results results = run(device, {Element::kFloat32, 1, 4}, x, {1, 1, 1, 1});
  EXPECT_EQ(results.y, (std::vector<float>{80, -0.0f, INFINITY, 0}));
  EXPECT_EQ(results.dx[0], 2);
  EXPECT_EQ(results.dx[1], 0);
}

TEST(GegluOrder, BlocksInAnyOrderGiveTheSameBits) {
  const Case c{Element::kBFloat16, 9, 1100};
  const std::vector<float> x = normal_values(c.rows * 2 * c.half, 1);
  const std::vector<float> dy = normal_values(c.rows * c.half, 2);
  expect_same_bits_in_any_order([&](TestDevice& device) {
    const Results results = run(device, c, x, dy);
    return std::vector<std::vector<float>>{results.y, results.dx};
  });
}

TEST(GegluInPlace, GradientMayOverwriteTheInput) {
  const std::vector<float> values = rounded(Element::kBFloat16, normal_values(2 * 2 * 16, 1));
  const std::vector<float> dy = rounded(Element::kBFloat16, normal_values(2 * 16, 2));
  TestDevice device;
  const Results apart = run(device, {Element::kBFloat16, 2, 16}, values, dy);
  const Typed x(device, Element::kBFloat16, "x", values);
  const Typed device_dy(device, Element::kBFloat16, "dy", dy);
  geglu_backward({Element::kBFloat16, 2, 16, x.data(), device_dy.data(), x.data()}, nullptr);
  EXPECT_EQ(x.download(), apart.dx);
}

TEST(GegluCounters, MovesWhatItMust) {
  const Case c{Element::kBFloat16, 16, 3072};
  TestDevice device;
  run(device, c, normal_values(c.rows * 2 * c.half, 1), normal_values(c.rows * c.half, 2));
  for (const char* kernel : {"geglu_forward", "geglu_backward"}) {
    EXPECT_EQ(device.counters(kernel).sector_factor(), 1.0) << kernel;
    EXPECT_EQ(device.counters(kernel).sectors_per_request(), 16.0) << kernel;
  }
  EXPECT_EQ(device.counters("geglu_forward").global_bytes_read, 16u * 3072 * 4);
  EXPECT_EQ(device.counters("geglu_forward").global_bytes_written, 16u * 3072 * 2);
  EXPECT_EQ(device.counters("geglu_backward").global_bytes_read, 16u * 3072 * 6);
  EXPECT_EQ(device.counters("geglu_backward").global_bytes_written, 16u * 3072 * 4);
}

TEST(GegluArguments, AreChecked) {
  TestDevice device;
  const auto some = device.buffer("some", std::vector<float>(8, 1.0f));
  float* p = some.data();
  EXPECT_THROW(geglu_forward({Element::kFloat16, 1, 4, p, p}, nullptr), ContractError);
  EXPECT_THROW(geglu_forward({Element::kFloat32, -1, 4, p, p}, nullptr), ContractError);
  EXPECT_THROW(geglu_forward({Element::kFloat32, 1, -4, p, p}, nullptr), ContractError);
  EXPECT_THROW(geglu_forward({Element::kFloat32, 1, 4, nullptr, p}, nullptr), ContractError);
  EXPECT_THROW(geglu_forward({Element::kFloat32, 1, 4, p, nullptr}, nullptr), ContractError);
  EXPECT_THROW(geglu_backward({Element::kFloat32, 1, 4, p, nullptr, p}, nullptr), ContractError);
  EXPECT_THROW(geglu_backward({Element::kFloat32, 1, 4, p, p, nullptr}, nullptr), ContractError);
  // More blocks than a launch may have.
  EXPECT_THROW(geglu_forward({Element::kFloat32, int64_t{1} << 40, 4, p, p}, nullptr), ContractError);
}

}  // namespace
}  // namespace gato::kernel_tests
