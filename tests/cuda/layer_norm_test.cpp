#include "kernels/cuda/layer_norm.h"

#include "cuda/kernel_test.h"
#include "gato/core/error.h"

namespace gato::kernel_tests {
namespace {

using namespace kernels::cuda;

struct Case {
  Element element = Element::kFloat32;
  int64_t rows = 0, width = 0;
  int64_t rows_per_factor = 0;  ///< 0: no factors.
  bool delta = true;
  bool extra = true;  ///< Whether the sum has a gradient of its own.
  size_t offset = 0;  ///< Elements by which all arrays are misaligned.
};

std::string name_of(const Case& c) {
  return cat(element_name(c.element), "_", c.rows, "x", c.width, c.rows_per_factor > 0 ? "_factors" : "",
             c.delta ? "" : "_plain", c.extra ? "" : "_no_sum_gradient", c.offset > 0 ? "_misaligned" : "");
}

/// Inputs as the kernels see them (rounded), and the reference's results in double.
struct Problem {
  explicit Problem(const Case& c)
      : x(normal_values(c.rows * c.width, 1, 2)),
        delta(rounded(c.element, normal_values(c.rows * c.width, 2))),
        gain(normal_values(c.width, 3)),
        offset(normal_values(c.width, 4)),
        dy(rounded(c.element, normal_values(c.rows * c.width, 5))),
        extra(normal_values(c.rows * c.width, 6)),
        gain_before(normal_values(c.width, 7)),
        offset_before(normal_values(c.width, 8)) {
    if (c.rows_per_factor > 0) {
      for (int64_t i = 0; i * c.rows_per_factor < c.rows; ++i) factors.push_back(i % 3 == 1 ? 0.0f : 1.0f / 0.9f);
    }
  }
  std::vector<float> x, delta, gain, offset, dy, extra, gain_before, offset_before, factors;
};

struct Expected {
  std::vector<double> sum, y, mean, inverse, dx, d_delta, d_gain, d_offset;
};

Expected reference(const Case& c, const Problem& p) {
  const auto width = static_cast<size_t>(c.width);
  Expected e;
  e.d_gain = widened(p.gain_before);
  e.d_offset = widened(p.offset_before);
  for (size_t row = 0; row < static_cast<size_t>(c.rows); ++row) {
    const double factor =
        p.factors.empty() ? 1.0 : static_cast<double>(p.factors[row / static_cast<size_t>(c.rows_per_factor)]);
    std::vector<double> sum(width);
    double mean = 0, variance = 0;
    for (size_t i = 0; i < width; ++i) {
      const size_t at = row * width + i;
      sum[i] = static_cast<double>(p.x[at]) + (c.delta ? factor * static_cast<double>(p.delta[at]) : 0.0);
      mean += sum[i] / static_cast<double>(width);
    }
    for (const double s : sum) variance += (s - mean) * (s - mean) / static_cast<double>(width);
    const double inverse = 1 / std::sqrt(variance + 1e-5);
    double mean_1 = 0, mean_2 = 0;
    for (size_t i = 0; i < width; ++i) {
      const double normal = (sum[i] - mean) * inverse;
      const auto dy = static_cast<double>(p.dy[row * width + i]);
      const double scaled = dy * static_cast<double>(p.gain[i]);
      e.y.push_back(normal * static_cast<double>(p.gain[i]) + static_cast<double>(p.offset[i]));
      e.d_gain[i] += dy * normal;
      e.d_offset[i] += dy;
      mean_1 += scaled / static_cast<double>(width);
      mean_2 += scaled * normal / static_cast<double>(width);
    }
    for (size_t i = 0; i < width; ++i) {
      const size_t at = row * width + i;
      const double scaled = static_cast<double>(p.dy[at]) * static_cast<double>(p.gain[i]);
      const double dx = inverse * (scaled - mean_1 - (sum[i] - mean) * inverse * mean_2) +
                        (c.extra ? static_cast<double>(p.extra[at]) : 0.0);
      e.dx.push_back(dx);
      e.d_delta.push_back(factor * dx);
    }
    e.sum.insert(e.sum.end(), sum.begin(), sum.end());
    e.mean.push_back(mean);
    e.inverse.push_back(inverse);
  }
  return e;
}

/// What the gradients are those of.
double objective(const Case& c, const Problem& p) {
  const Expected e = reference(c, p);
  double total = 0;
  for (size_t i = 0; i < e.y.size(); ++i) {
    total += e.y[i] * static_cast<double>(p.dy[i]) + e.sum[i] * static_cast<double>(p.extra[i]);
  }
  return total;
}

TEST(LayerNormReference, HasTheGradientsOfFiniteDifferences) {
  const Case c{Element::kFloat32, 4, 6, 2};
  Problem p(c);
  const Expected e = reference(c, p);
  const auto expect_slopes = [&](std::vector<float>& values, const std::vector<double>& slopes,
                                 const std::vector<float>& before) {
    for (size_t i = 0; i < values.size(); ++i) {
      constexpr float kStep = 0x1p-9f;
      const float value = values[i];
      values[i] = value + kStep;
      const double above = objective(c, p);
      values[i] = value - kStep;
      const double below = objective(c, p);
      values[i] = value;
      const double slope = slopes[i] - (before.empty() ? 0.0 : static_cast<double>(before[i]));
      EXPECT_NEAR((above - below) / (2 * static_cast<double>(kStep)), slope, 2e-3) << i;
    }
  };
  expect_slopes(p.x, e.dx, {});
  expect_slopes(p.delta, e.d_delta, {});
  expect_slopes(p.gain, e.d_gain, p.gain_before);
  expect_slopes(p.offset, e.d_offset, p.offset_before);
}

struct Results {
  std::vector<float> sum, y, mean, inverse, dx, d_delta, d_gain, d_offset;
  [[nodiscard]] std::vector<std::vector<float>> all() const {
    return {sum, y, mean, inverse, dx, d_delta, d_gain, d_offset};
  }
};

Results run(TestDevice& device, const Case& c, const Problem& p) {
  const auto size = static_cast<size_t>(c.rows * c.width);
  const auto rows = static_cast<size_t>(c.rows);
  const auto floats = [&](const char* name, const std::vector<float>& values) {
    return Typed(device, Element::kFloat32, name, values, c.offset);
  };
  const Typed x = floats("x", p.x);
  const Typed delta(device, c.element, "delta", p.delta, c.offset);
  const Typed factors = floats("factors", p.factors);
  const Typed gain = floats("gain", p.gain);
  const Typed offset = floats("offset", p.offset);
  const Typed sum(device, Element::kFloat32, "sum", size, c.offset);
  const Typed y(device, c.element, "y", size, c.offset);
  const Typed mean(device, Element::kFloat32, "mean", rows);
  const Typed inverse(device, Element::kFloat32, "inverse", rows);
  const float* const factor_data = p.factors.empty() ? nullptr : factors.floats();
  const int64_t rows_per_factor = p.factors.empty() ? 1 : c.rows_per_factor;
  layer_norm_forward({.element = c.element,
                      .rows = c.rows,
                      .width = c.width,
                      .x = x.floats(),
                      .delta = c.delta ? delta.data() : nullptr,
                      .factors = factor_data,
                      .rows_per_factor = rows_per_factor,
                      .gain = gain.floats(),
                      .offset = offset.floats(),
                      .sum = c.delta ? sum.floats() : nullptr,
                      .y = y.data(),
                      .mean = mean.floats(),
                      .inverse_deviation = inverse.floats()},
                     nullptr);

  const Typed dy(device, c.element, "dy", p.dy, c.offset);
  const Typed extra = floats("extra", p.extra);
  const Typed dx(device, Element::kFloat32, "dx", size, c.offset);
  const Typed d_delta(device, c.element, "d_delta", size, c.offset);
  const Typed d_gain = floats("d_gain", p.gain_before);
  const Typed d_offset = floats("d_offset", p.offset_before);
  const auto workspace = device.buffer<std::byte>("workspace", layer_norm_backward_workspace(c.rows, c.width));
  layer_norm_backward({.element = c.element,
                       .rows = c.rows,
                       .width = c.width,
                       .sum = c.delta ? sum.floats() : x.floats(),
                       .mean = mean.floats(),
                       .inverse_deviation = inverse.floats(),
                       .gain = gain.floats(),
                       .y_gradient = dy.data(),
                       .sum_gradient = c.extra ? extra.floats() : nullptr,
                       .factors = factor_data,
                       .rows_per_factor = rows_per_factor,
                       .x_gradient = dx.floats(),
                       .delta_gradient = d_delta.data(),
                       .gain_gradient = d_gain.floats(),
                       .offset_gradient = d_offset.floats(),
                       .workspace = workspace.data()},
                      nullptr);
  return {c.delta ? sum.download() : p.x,
          y.download(),
          mean.download(),
          inverse.download(),
          dx.download(),
          d_delta.download(),
          d_gain.download(),
          d_offset.download()};
}

class LayerNorm : public testing::TestWithParam<Case> {};

TEST_P(LayerNorm, AgreesWithReference) {
  const Case& c = GetParam();
  const Problem problem(c);
  const Expected expected = reference(c, problem);
  TestDevice device;
  const Results results = run(device, c, problem);
  const Tolerance exact = tolerance_of(Element::kFloat32);
  const Tolerance typed = tolerance_of(c.element);
  EXPECT_TRUE(all_close(results.sum, expected.sum, exact));
  EXPECT_TRUE(all_close(results.y, expected.y, c.element == Element::kFloat32 ? typed.times(4) : typed));
  EXPECT_TRUE(all_close(results.mean, expected.mean, exact));
  EXPECT_TRUE(all_close(results.inverse, expected.inverse, exact));
  // Deviations of two or three elements may be small; their inverse magnifies rounding.
  EXPECT_TRUE(all_close(results.dx, expected.dx, exact.times(10)));
  EXPECT_TRUE(all_close(results.d_delta, expected.d_delta, c.element == Element::kFloat32 ? typed.times(10) : typed));
  const double terms = std::sqrt(static_cast<double>(c.rows) + 1);
  EXPECT_TRUE(all_close(results.d_gain, expected.d_gain, exact.times(4 * terms)));
  EXPECT_TRUE(all_close(results.d_offset, expected.d_offset, exact.times(4 * terms)));
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Element element : {Element::kFloat32, Element::kBFloat16}) {
    for (const int64_t width : {1, 31, 33, 541, 32, 256, 768}) all.push_back({element, 3, width, 1});
    for (const int64_t rows : {0, 1, 31, 33}) all.push_back({element, rows, 64, 0});
    all.push_back({element, 541, 32, 0});  // more rows than groups of the backward pass would have at full width
    all.push_back({element, 4, 1536, 2});
    all.push_back({element, 3, 2048, 3});
    all.push_back({element, 2, 2052, 1});
    all.push_back({element, 2, 8192, 0});
    all.push_back({element, 2, 1025, 0});
    all.push_back({element, 6, 768, 2, true, false});
    all.push_back({element, 6, 768, 2, false, false});
    all.push_back({element, 6, 100, 0, false, true});
    all.push_back({element, 6, 128, 3, true, true, 1});
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Shapes, LayerNorm, testing::ValuesIn(cases()),
                         [](const auto& test) { return name_of(test.param); });

TEST(LayerNormOrder, BlocksInAnyOrderGiveTheSameBits) {
  for (const Case& c : {Case{Element::kBFloat16, 300, 64, 4}, Case{Element::kFloat32, 140, 33, 0}}) {
    const Problem problem(c);
    expect_same_bits_in_any_order([&](TestDevice& device) { return run(device, c, problem).all(); });
  }
}

TEST(LayerNormInPlace, ResidualStreamAndItsGradientMayBeOverwritten) {
  const Case c{Element::kBFloat16, 5, 128, 0};
  const Problem p(c);
  const Expected expected = reference(c, p);
  TestDevice device;
  const auto x = device.buffer("x", p.x);
  const Typed delta(device, c.element, "delta", p.delta);
  const auto gain = device.input("gain", p.gain);
  const auto offset = device.input("offset", p.offset);
  const Typed y(device, c.element, "y", p.x.size());
  const auto mean = device.buffer<float>("mean", 5);
  const auto inverse = device.buffer<float>("inverse", 5);
  layer_norm_forward({.element = c.element,
                      .rows = 5,
                      .width = 128,
                      .x = x.data(),
                      .delta = delta.data(),
                      .gain = gain.data(),
                      .offset = offset.data(),
                      .sum = x.data(),
                      .y = y.data(),
                      .mean = mean.data(),
                      .inverse_deviation = inverse.data()},
                     nullptr);
  EXPECT_TRUE(all_close(x.download(), expected.sum, tolerance_of(Element::kFloat32)));
  const Typed dy(device, c.element, "dy", p.dy);
  const auto stream_gradient = device.buffer("stream_gradient", p.extra);
  layer_norm_backward({.element = c.element,
                       .rows = 5,
                       .width = 128,
                       .sum = x.data(),
                       .mean = mean.data(),
                       .inverse_deviation = inverse.data(),
                       .gain = gain.data(),
                       .y_gradient = dy.data(),
                       .sum_gradient = stream_gradient.data(),
                       .x_gradient = stream_gradient.data()},  // frozen gain and offset: no workspace
                      nullptr);
  EXPECT_TRUE(all_close(stream_gradient.download(), expected.dx, tolerance_of(Element::kFloat32).times(10)));
}

TEST(LayerNormCounters, MovesLittleMoreThanItMust) {
  const Case c{Element::kBFloat16, 64, 768, 1};
  const Problem problem(c);
  TestDevice device;
  run(device, c, problem);
  EXPECT_LE(device.counters("layer_norm_forward").sector_factor(), 1.01);
  EXPECT_LE(device.counters("layer_norm_backward").sector_factor(), 1.01);
  EXPECT_LE(device.counters("layer_norm_backward").conflict_factor(), 1.0);
  // Forward: x and delta in, sum and y out; gain and offset come from the caches.
  EXPECT_EQ(device.counters("layer_norm_forward").global_bytes_written, 64u * (768 * 6 + 8));
}

TEST(LayerNormArguments, AreChecked) {
  TestDevice device;
  const auto some = device.buffer("some", std::vector<float>(64, 1.0f));
  float* p = some.data();
  LayerNormForward forward{.element = Element::kFloat32,
                           .rows = 1,
                           .width = 4,
                           .x = p,
                           .gain = p,
                           .offset = p,
                           .y = p,
                           .mean = p,
                           .inverse_deviation = p};
  const auto refused = [&](auto change) {
    LayerNormForward bad = forward;
    change(bad);
    EXPECT_THROW(layer_norm_forward(bad, nullptr), ContractError);
  };
  refused([](auto& c) { c.element = Element::kFloat16; });
  refused([](auto& c) { c.width = 0; });
  refused([](auto& c) { c.width = kLargestNormWidth + 1; });
  refused([](auto& c) { c.rows = -1; });
  refused([](auto& c) { c.x = nullptr; });
  refused([](auto& c) { c.gain = nullptr; });
  refused([](auto& c) { c.rows_per_factor = 0; });
  refused([](auto& c) { c.epsilon = -1; });
  refused([&](auto& c) { c.delta = p; });  // without a place for the sum
  refused([&](auto& c) { c.y = reinterpret_cast<std::byte*>(p) + 1; });
  LayerNormBackward backward{.rows = 1,
                             .width = 4,
                             .sum = p,
                             .mean = p,
                             .inverse_deviation = p,
                             .gain = p,
                             .y_gradient = p,
                             .x_gradient = p,
                             .gain_gradient = p};
  EXPECT_THROW(layer_norm_backward(backward, nullptr), ContractError);  // no workspace
  backward.gain_gradient = nullptr;
  backward.mean = nullptr;
  EXPECT_THROW(layer_norm_backward(backward, nullptr), ContractError);
  EXPECT_EQ(device.counters().blocks, 0u);
}

}  // namespace
}  // namespace gato::kernel_tests
