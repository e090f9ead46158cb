#include "kernels/cuda/cross_entropy.h"

#include <algorithm>

#include "cuda/kernel_test.h"
#include "gato/core/error.h"

namespace gato::kernel_tests {
namespace {

using namespace kernels::cuda;

struct Case {
  Element element = Element::kFloat32;
  int64_t positions = 0, vocabulary = 0;
  int64_t padding = 0;  ///< Elements between positions.
  int64_t first_id = 0, num_ids = 0;
  double sigma = 0;
  bool differentiate = true;
  float scale = 1;
};

std::string name_of(const Case& c) {
  return cat(element_name(c.element), "_", c.positions, "x", c.vocabulary, c.padding > 0 ? "_padded" : "",
             c.sigma > 0 ? cat("_soft", static_cast<int>(c.sigma * 10)) : "", c.differentiate ? "" : "_forward_only",
             c.scale != 1 ? "_scaled" : "");
}

struct Problem {
  explicit Problem(const Case& c)
      : logits(rounded(c.element, normal_values(c.positions * (c.vocabulary + c.padding), 1, 3))),
        weights(uniform_values(c.positions, 2)) {
    Rng rng(3);
    for (int64_t p = 0; p < c.positions; ++p) targets.push_back(rng.below(c.vocabulary));
    // The ends of the range of soft targets, where the Gaussian is cut off.
    if (c.sigma > 0 && c.positions > 2) {
      targets[0] = c.first_id;
      targets[1] = c.first_id + c.num_ids - 1;
    }
  }
  std::vector<float> logits, weights;
  std::vector<int64_t> targets;
};

struct Expected {
  std::vector<double> loss, nll, gradient;  ///< Padding as it was.
};

/// Shares of the target over the vocabulary: gato/kernels/cross_entropy.h.
std::vector<double> shares_of(const Case& c, int64_t target) {
  std::vector<double> shares(static_cast<size_t>(c.vocabulary), 0.0);
  if (!(c.sigma > 0) || target < c.first_id || target >= c.first_id + c.num_ids) {
    shares[static_cast<size_t>(target)] = 1;
    return shares;
  }
  double total = 0;
  for (int64_t id = c.first_id; id < c.first_id + c.num_ids; ++id) {
    const double distance = static_cast<double>(id - target) / c.sigma;
    total += shares[static_cast<size_t>(id)] = std::exp(-0.5 * distance * distance);
  }
  for (double& share : shares) share /= total;
  return shares;
}

Expected reference(const Case& c, const Problem& p) {
  Expected e;
  e.gradient = widened(p.logits);
  for (int64_t position = 0; position < c.positions; ++position) {
    double* row = e.gradient.data() + position * (c.vocabulary + c.padding);
    const auto size = static_cast<size_t>(c.vocabulary);
    const double top = *std::max_element(row, row + size);
    double sum = 0;
    for (size_t i = 0; i < size; ++i) sum += std::exp(row[i] - top);
    const double log_sum = top + std::log(sum);
    const auto at = static_cast<size_t>(position);
    const std::vector<double> shares = shares_of(c, p.targets[at]);
    double loss = 0;
    for (size_t i = 0; i < size; ++i) loss += shares[i] * (log_sum - row[i]);
    e.loss.push_back(loss);
    e.nll.push_back(log_sum - row[static_cast<size_t>(p.targets[at])]);
    if (!c.differentiate) continue;
    const double factor = static_cast<double>(p.weights[at]) * static_cast<double>(c.scale);
    for (size_t i = 0; i < size; ++i) row[i] = factor * (std::exp(row[i] - log_sum) - shares[i]);
  }
  return e;
}

TEST(CrossEntropyReference, HasTheGradientsOfFiniteDifferences) {
  const Case c{Element::kFloat32, 4, 9, 0, 2, 6, 1.5, true, 0.5f};
  Problem p(c);
  const auto objective = [&] {
    const Expected e = reference(c, p);
    double total = 0;
    for (size_t i = 0; i < e.loss.size(); ++i) total += e.loss[i] * static_cast<double>(p.weights[i]) * 0.5;
    return total;
  };
  const Expected e = reference(c, p);
  for (size_t i = 0; i < p.logits.size(); ++i) {
    constexpr float kStep = 0x1p-9f;
    const float value = p.logits[i];
    p.logits[i] = value + kStep;
    const double above = objective();
    p.logits[i] = value - kStep;
    const double below = objective();
    p.logits[i] = value;
    EXPECT_NEAR((above - below) / (2 * static_cast<double>(kStep)), e.gradient[i], 1e-4) << i;
  }
}

struct Results {
  std::vector<float> loss, nll, logits;
};

Results run(TestDevice& device, const Case& c, const Problem& p) {
  const Typed logits(device, c.element, "logits", p.logits);
  const auto targets = device.input("targets", p.targets);
  const auto weights = device.input("weights", p.weights);
  const auto scale = device.input("scale", std::vector<float>{c.scale});
  const auto loss = device.buffer<float>("loss", p.targets.size());
  const auto nll = device.buffer<float>("nll", p.targets.size());
  cross_entropy({.element = c.element,
                 .positions = c.positions,
                 .vocabulary = c.vocabulary,
                 .stride = c.vocabulary + c.padding,
                 .logits = logits.data(),
                 .targets = targets.data(),
                 .weights = weights.data(),
                 .scale = c.scale == 1 ? nullptr : scale.data(),
                 .first_id = c.first_id,
                 .num_ids = c.num_ids,
                 .sigma = static_cast<float>(c.sigma),
                 .differentiate = c.differentiate,
                 .loss = loss.data(),
                 .nll = nll.data()},
                nullptr);
  return {loss.download(), nll.download(), logits.download()};
}

class CrossEntropyTest : public testing::TestWithParam<Case> {};

TEST_P(CrossEntropyTest, AgreesWithReference) {
  const Case& c = GetParam();
  const Problem problem(c);
  const Expected expected = reference(c, problem);
  TestDevice device;
  const Results results = run(device, c, problem);
  const Tolerance exact = tolerance_of(Element::kFloat32);
  EXPECT_TRUE(all_close(results.loss, expected.loss, exact));
  EXPECT_TRUE(all_close(results.nll, expected.nll, exact));
  const Tolerance typed = tolerance_of(c.element);
  EXPECT_TRUE(all_close(results.logits, expected.gradient,
                        {1e-6, c.differentiate ? typed.relative : 0}));  // one rounding, not the two of in-place code
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Element element : {Element::kFloat32, Element::kBFloat16}) {
    for (const int64_t vocabulary : {1, 2, 31, 33, 541, 1024, 2049, 5000}) all.push_back({element, 3, vocabulary});
    for (const int64_t positions : {0, 1, 33}) all.push_back({element, positions, 64});
    all.push_back({element, 4, 541, 3});
    all.push_back({element, 3, 33025});
    all.push_back({element, 9, 541, 0, 100, 300, 1.5});
    all.push_back({element, 9, 541, 3, 100, 441, 40});
    all.push_back({element, 9, 64, 0, 0, 64, 0.3});
    all.push_back({element, 5, 300, 0, 0, 0, 0, false});
    all.push_back({element, 5, 300, 0, 10, 200, 3, true, 0.125f});
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Shapes, CrossEntropyTest, testing::ValuesIn(cases()),
                         [](const auto& test) { return name_of(test.param); });

TEST(CrossEntropyValues, MaskedLogitsHaveNoShare) {
  const float out = -INFINITY;
  Case c{Element::kFloat32, 2, 40};
  Problem p(c);
  for (size_t i = 0; i < 40; ++i) p.logits[i] = i == 7 || i == 9 ? 1.0f : out;
  p.targets = {7, 3};
  TestDevice device;
  const Results results = run(device, c, p);
  EXPECT_FLOAT_EQ(results.nll[0], std::log(2.0f));
  EXPECT_FLOAT_EQ(results.logits[9], 0.5f * p.weights[0]);
  EXPECT_FLOAT_EQ(results.logits[7], -0.5f * p.weights[0]);
  EXPECT_EQ(results.logits[8], 0);
}

TEST(CrossEntropyValues, LargeLogitsDoNotOverflow) {
  Case c{Element::kFloat32, 1, 3};
  Problem p(c);
  p.logits = {3e38f, -3e38f, 0};
  p.targets = {0};
  TestDevice device;
  const Results results = run(device, c, p);
  EXPECT_EQ(results.loss[0], 0);
  EXPECT_EQ(results.logits, (std::vector<float>{0, 0, 0}));
}

TEST(CrossEntropyValues, NonFiniteLogitsAndBadTargetsGiveNonFiniteLosses) {
  for (const float bad : {NAN, INFINITY}) {
    Case c{Element::kFloat32, 1, 100};
    Problem p(c);
    p.logits[57] = bad;
    p.targets = {3};
    TestDevice device;
    const Results results = run(device, c, p);
    EXPECT_FALSE(std::isfinite(results.loss[0])) << bad;
  }
  for (const int64_t target : {int64_t{-1}, int64_t{100}, int64_t{1} << 40}) {
    Case c{Element::kBFloat16, 2, 100};
    Problem p(c);
    p.targets = {target, 5};
    TestDevice device;
    const Results results = run(device, c, p);
    EXPECT_TRUE(std::isnan(results.loss[0]));
    EXPECT_TRUE(std::isnan(results.nll[0]));
    for (size_t i = 0; i < 100; ++i) EXPECT_TRUE(std::isnan(results.logits[i]));
    EXPECT_TRUE(std::isfinite(results.loss[1]));
  }
}

TEST(CrossEntropyOrder, BlocksInAnyOrderGiveTheSameBits) {
  const Case c{Element::kBFloat16, 7, 3001, 0, 100, 2000, 5};
  const Problem problem(c);
  expect_same_bits_in_any_order([&](TestDevice& device) {
    const Results results = run(device, c, problem);
    return std::vector<std::vector<float>>{results.loss, results.nll, results.logits};
  });
}

TEST(CrossEntropyCounters, ReadsTwiceAndWritesOnce) {
  const Case c{Element::kBFloat16, 4, 33025};  // rows start at odd places
  const Problem problem(c);
  TestDevice device;
  run(device, c, problem);
  const auto counters = device.counters("cross_entropy");
  EXPECT_LE(counters.sector_factor(), 1.02);
  EXPECT_LE(counters.global_bytes_written, 4u * (33025 * 2 + 8));
  EXPECT_LE(counters.global_bytes_read, 4u * (33025 * 4) + 64 * 1024);
  EXPECT_EQ(counters.conflict_factor(), 1.0);
}

TEST(CrossEntropyArguments, AreChecked) {
  TestDevice device;
  const auto floats = device.buffer("floats", std::vector<float>(16, 1.0f));
  const auto targets = device.input("targets", std::vector<int64_t>{0, 0});
  float* p = floats.data();
  const CrossEntropy good{.positions = 1,
                          .vocabulary = 4,
                          .stride = 4,
                          .logits = p,
                          .targets = targets.data(),
                          .weights = p,
                          .loss = p,
                          .nll = p};
  const auto refused = [&](auto change) {
    CrossEntropy bad = good;
    change(bad);
    EXPECT_THROW(cross_entropy(bad, nullptr), ContractError);
  };
  refused([](auto& c) { c.element = Element::kFloat16; });
  refused([](auto& c) { c.stride = 3; });
  refused([](auto& c) { c.vocabulary = 0; });
  refused([](auto& c) { c.positions = -1; });
  refused([](auto& c) { c.logits = nullptr; });
  refused([](auto& c) { c.targets = nullptr; });
  refused([](auto& c) { c.weights = nullptr; });
  refused([](auto& c) { c.loss = nullptr; });
  refused([](auto& c) { c.nll = nullptr; });
  refused([](auto& c) {
    c.sigma = 1;
    c.first_id = 2;
    c.num_ids = 3;
  });
}

}  // namespace
}  // namespace gato::kernel_tests
