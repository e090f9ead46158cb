#include "gato/kernels/layer_norm.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "gato/core/error.h"
#include "gato/kernels/reference.h"
#include "kernels/gradient_check.h"

namespace gato::kernels {
namespace {

using namespace testing;

struct NormCase {
  int64_t rows, width, factors;  // factors 0: no scale
};

class LayerNormTest : public ::testing::TestWithParam<NormCase> {};

TEST_P(LayerNormTest, ResidualMatchesReferenceForwardAndBackward) {
  const auto [rows, width, factors] = GetParam();
  const at::Tensor x = random_normal({rows, width}, 1), delta = random_normal({rows, width}, 2);
  const at::Tensor scale = factors > 0 ? random_normal({factors}, 3) : at::Tensor();
  const at::Tensor g = random_normal({width}, 4), b = random_normal({width}, 5);
  const at::Tensor d_sum = random_normal({rows, width}, 6), dy = random_normal({rows, width}, 7);
  const Parameter gain = make_parameter(g), offset = make_parameter(b);
  const at::Tensor x1 = leaf(x), delta1 = leaf(delta);
  const auto [sum1, y1] = residual_layer_norm(x1, delta1, scale, gain, offset);
  const at::Tensor x2 = leaf(x.to(at::kDouble)), delta2 = leaf(delta.to(at::kDouble));
  const at::Tensor g2 = leaf(g.to(at::kDouble)), b2 = leaf(b.to(at::kDouble));
  const auto [sum2, y2] =
      reference::residual_layer_norm(x2, delta2, scale.defined() ? scale.to(at::kDouble) : scale, g2, b2);
  // A row of one or two elements may have a tiny variance, which magnifies rounding errors.
  const Tolerance tolerance = tolerance_of(at::kFloat).times(width < 4 ? 1000 : 4);
  EXPECT_TRUE(all_close(sum1, sum2, tolerance_of(at::kFloat)));
  EXPECT_TRUE(all_close(y1, y2, tolerance));
  if (rows == 0) return;
  torch::autograd::backward({sum1, y1}, {d_sum, dy});
  torch::autograd::backward({sum2, y2}, {d_sum.to(at::kDouble), dy.to(at::kDouble)});
  EXPECT_TRUE(all_close(x1.grad(), x2.grad(), tolerance));
  EXPECT_TRUE(all_close(delta1.grad(), delta2.grad(), tolerance));
  const Tolerance summed = tolerance.times(1 + std::sqrt(static_cast<double>(rows)));  // sums over rows
  EXPECT_TRUE(all_close(gain.gradient, g2.grad(), summed));
  EXPECT_TRUE(all_close(offset.gradient, b2.grad(), summed));
}

INSTANTIATE_TEST_SUITE_P(Sizes, LayerNormTest,
                         ::testing::Values(NormCase{0, 8, 0}, NormCase{1, 1, 0}, NormCase{2, 31, 2},
                                           NormCase{33, 33, 3}, NormCase{541, 17, 0}, NormCase{96, 128, 4},
                                           NormCase{31, 541, 31}),
                         [](const auto& test) {
                           return cat(test.param.rows, "x", test.param.width, "_factors", test.param.factors);
                         });

TEST(LayerNormTest, PlainMatchesReference) {
  const at::Tensor x = random_normal({13, 37}, 1);
  const Parameter gain = make_parameter(random_normal({37}, 2)), offset = make_parameter(random_normal({37}, 3));
  const at::Tensor x1 = leaf(x), x2 = leaf(x.to(at::kDouble));
  const at::Tensor y1 = layer_norm(x1, gain, offset);
  const at::Tensor y2 =
      reference::residual_layer_norm(x2, {}, {}, gain.value.to(at::kDouble), offset.value.to(at::kDouble)).second;
  EXPECT_TRUE(all_close(y1, y2, tolerance_of(at::kFloat).times(4)));
  const at::Tensor dy = random_normal({13, 37}, 4);
  backward_from(y1, dy);
  backward_from(y2, dy);
  EXPECT_TRUE(all_close(x1.grad(), x2.grad(), tolerance_of(at::kFloat).times(4)));
}

TEST(LayerNormTest, UnusedOutputsBringNoGradient) {
  const Parameter gain = make_parameter(at::ones({8})), offset = make_parameter(at::zeros({8}));
  const at::Tensor x = leaf(random_normal({3, 8}, 1)), delta = leaf(random_normal({3, 8}, 2));
  const auto [sum, y] = residual_layer_norm(x, delta, {}, gain, offset);
  backward_from(sum, at::ones({3, 8}));
  EXPECT_TRUE(all_close(x.grad(), at::ones({3, 8}), tolerance_of(at::kFloat)));
  EXPECT_TRUE(all_close(delta.grad(), at::ones({3, 8}), tolerance_of(at::kFloat)));
}

TEST(LayerNormTest, ConstantRowsGiveTheOffset) {
  const Parameter gain = make_parameter(random_normal({40}, 1)), offset = make_parameter(random_normal({40}, 2));
  const at::Tensor x = leaf(at::full({3, 40}, 7.5f));
  const at::Tensor y = layer_norm(x, gain, offset);
  EXPECT_TRUE(all_close(y, offset.value.unsqueeze(0).expand({3, 40}), tolerance_of(at::kFloat)));
  backward_from(y, random_normal({3, 40}, 3));
  EXPECT_TRUE(x.grad().isfinite().all().item<bool>());
}

TEST(LayerNormTest, MatchesFiniteDifferences) {
  const at::Tensor x = random_normal({5, 24}, 1), delta = random_normal({5, 24}, 2),
                   weights = random_normal({5, 24}, 3);
  const Parameter gain = make_parameter(random_normal({24}, 4)), offset = make_parameter(random_normal({24}, 5));
  const at::Tensor input = leaf(delta);
  backward_from(residual_layer_norm(x, input, {}, gain, offset).second, weights);
  const auto f = [&](const at::Tensor& at) {
    return inner_product(residual_layer_norm(x, at, {}, gain, offset).second, weights);
  };
  for (uint64_t seed = 20; seed < 23; ++seed) {
    EXPECT_TRUE(matches_finite_difference(f, delta, input.grad(), seed));
  }
}

TEST(LayerNormTest, SameBitsForAnyNumberOfThreads) {
  const int threads = at::get_num_threads();
  std::vector<at::Tensor> results;
  for (const int n : {1, 2}) {
    at::set_num_threads(n);
    const Parameter gain = make_parameter(random_normal({64}, 4)), offset = make_parameter(random_normal({64}, 5));
    backward_from(layer_norm(random_normal({700, 64}, 1), gain, offset), random_normal({700, 64}, 2));
    results.push_back(at::cat({gain.gradient, offset.gradient}));
  }
  at::set_num_threads(threads);
  EXPECT_TRUE(same_bits(results[0], results[1]));
}

TEST(LayerNormTest, RefusesWrongArguments) {
  const Parameter gain = make_parameter(at::ones({8})), offset = make_parameter(at::zeros({8}));
  const at::Tensor x = random_normal({6, 8}, 1);
  EXPECT_THROW((void)layer_norm(random_normal({6, 7}, 1), gain, offset), ContractError);
  EXPECT_THROW((void)residual_layer_norm(x, random_normal({5, 8}, 1), {}, gain, offset), ContractError);
  EXPECT_THROW((void)residual_layer_norm(x, x, at::ones({4}), gain, offset), ContractError);
  EXPECT_THROW((void)residual_layer_norm(x, x, at::ones({2}, at::kDouble), gain, offset), ContractError);
}

}  // namespace
}  // namespace gato::kernels
