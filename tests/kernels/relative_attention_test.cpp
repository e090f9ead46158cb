#include "gato/kernels/relative_attention.h"

#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <gtest/gtest.h>

#include "gato/core/error.h"
#include "gato/kernels/reference.h"
#include "kernels/gradient_check.h"

namespace gato::kernels {
namespace {

using namespace testing;

struct RelativeCase {
  int64_t rows, tokens, heads, head_dim, longest, distances;
};

/// Inputs of one case: queries, keys and values, distances and biases.
struct Problem {
  at::Tensor qkv, starts, distances;
  RelativeBiases biases;
};

Problem make_problem(const RelativeCase& c) {
  return {random_normal({c.rows, c.tokens, 3, c.heads, c.head_dim}, 1),
          random_sequence_starts(c.rows, c.tokens, c.longest, 2),
          random_normal({c.distances, c.heads, c.head_dim}, 3),
          {make_parameter(random_normal({c.heads, c.head_dim}, 4)),
           make_parameter(random_normal({c.heads, c.head_dim}, 5))}};
}

class RelativeAttentionTest : public ::testing::TestWithParam<RelativeCase> {};

TEST_P(RelativeAttentionTest, MatchesReferenceForwardAndBackward) {
  const RelativeCase c = GetParam();
  const Problem p = make_problem(c);
  const at::Tensor qkv = leaf(p.qkv), distances = leaf(p.distances);
  const auto slow = [](const at::Tensor& x) { return leaf(x.to(at::kDouble)); };
  const at::Tensor slow_qkv = slow(p.qkv), slow_distances = slow(p.distances), u = slow(p.biases.content.value),
                   v = slow(p.biases.position.value);
  const at::Tensor y = relative_attention(qkv, p.starts, distances, p.biases);
  const at::Tensor expected = reference::relative_attention(slow_qkv, p.starts, slow_distances, u, v);
  EXPECT_TRUE(all_close(y, expected, tolerance_of(at::kFloat).times(2)));  // scores have a standard deviation of 2
  if (p.qkv.numel() == 0) return;
  const at::Tensor dy = random_normal(y.sizes(), 6);
  backward_from(y, dy);
  backward_from(expected, dy);
  // Sums over up to `longest` queries; those of distances and biases over all queries.
  EXPECT_TRUE(all_close(qkv.grad(), slow_qkv.grad(), tolerance_of(at::kFloat).times(8)));
  EXPECT_TRUE(all_close(distances.grad(), slow_distances.grad(), tolerance_of(at::kFloat).times(20)));
  EXPECT_TRUE(all_close(p.biases.content.gradient, u.grad(), tolerance_of(at::kFloat).times(40)));
  EXPECT_TRUE(all_close(p.biases.position.gradient, v.grad(), tolerance_of(at::kFloat).times(40)));
}

INSTANTIATE_TEST_SUITE_P(Shapes, RelativeAttentionTest,
                         ::testing::Values(RelativeCase{0, 7, 2, 8, 3, 7}, RelativeCase{2, 0, 2, 8, 3, 1},
                                           RelativeCase{1, 1, 1, 1, 1, 1}, RelativeCase{2, 48, 2, 20, 1, 5},
                                           RelativeCase{3, 31, 2, 7, 5, 31}, RelativeCase{2, 33, 3, 32, 33, 40},
                                           RelativeCase{1, 128, 2, 16, 128, 128}, RelativeCase{1, 129, 2, 16, 129, 129},
                                           RelativeCase{1, 300, 4, 16, 300, 300}),
                         [](const auto& test) {
                           const RelativeCase& c = test.param;
                           return cat("rows", c.rows, "_tokens", c.tokens, "_heads", c.heads, "_dim", c.head_dim,
                                      "_longest", c.longest, "_distances", c.distances);
                         });

TEST(RelativeAttentionTest, ScoreIsTheFormulaOfThePaper) {
  // Two tokens, one head of one element: everything by hand.
  const at::Tensor qkv = at::tensor({0.5f, 1.0f, 2.0f, -1.0f, 0.25f, 3.0f}).view({1, 2, 3, 1, 1});
  const at::Tensor distances = at::tensor({0.75f, -0.5f}).view({2, 1, 1});  // of distance 1, then 0
  const RelativeBiases biases{make_parameter(at::tensor({0.1f}).view({1, 1})),
                              make_parameter(at::tensor({-0.2f}).view({1, 1}))};
  const at::Tensor y = relative_attention(qkv, at::zeros({1, 2}, at::kInt), distances, biases);
  const double to_first = (-1.0 + 0.1) * 1.0 + (-1.0 - 0.2) * 0.75;
  const double to_itself = (-1.0 + 0.1) * 0.25 + (-1.0 - 0.2) * -0.5;
  const double weight = std::exp(to_first) / (std::exp(to_first) + std::exp(to_itself));
  EXPECT_FLOAT_EQ(y[0][0].item<float>(), 2.0f);
  EXPECT_NEAR(y[0][1].item<double>(), 2 * weight + 3 * (1 - weight), 1e-6);
}

TEST(RelativeAttentionTest, DistanceTableHoldsSinusoidsOfDescendingDistances) {
  const at::Tensor table = make_distance_table(5, 7);
  ASSERT_EQ(table.sizes(), (at::IntArrayRef{5, 7}));
  for (int64_t k = 0; k < 4; ++k) EXPECT_EQ(table[4][k].item<float>(), 0) << k;     // sines of distance 0
  for (int64_t k = 4; k < 7; ++k) EXPECT_EQ(table[4][k].item<float>(), 1.0f) << k;  // cosines
  EXPECT_FLOAT_EQ(table[1][0].item<float>(), static_cast<float>(std::sin(3.0)));
  EXPECT_FLOAT_EQ(table[0][6].item<float>(), static_cast<float>(std::cos(4 * std::pow(10000.0, -4.0 / 7))));
}

TEST(RelativeAttentionTest, MatchesFiniteDifferences) {
  const Problem p = make_problem({1, 21, 2, 8, 9, 21});
  const at::Tensor weights = random_normal({1, 21, 2, 8}, 7);
  const at::Tensor qkv = leaf(p.qkv), distances = leaf(p.distances);
  backward_from(relative_attention(qkv, p.starts, distances, p.biases), weights);
  const auto value = [&](const at::Tensor& x, const at::Tensor& d, const at::Tensor& u, const at::Tensor& v) {
    return inner_product(relative_attention(x, p.starts, d, {{u, {}}, {v, {}}}), weights);
  };
  const at::Tensor u = p.biases.content.value, v = p.biases.position.value;
  for (uint64_t seed = 10; seed < 13; ++seed) {
    const auto check = [&](auto f, const at::Tensor& x, const at::Tensor& gradient) {
      EXPECT_TRUE(matches_finite_difference(f, x, gradient, seed));
    };
    check([&](const at::Tensor& x) { return value(x, p.distances, u, v); }, p.qkv, qkv.grad());
    check([&](const at::Tensor& x) { return value(p.qkv, x, u, v); }, p.distances, distances.grad());
    check([&](const at::Tensor& x) { return value(p.qkv, p.distances, x, v); }, u, p.biases.content.gradient);
    check([&](const at::Tensor& x) { return value(p.qkv, p.distances, u, x); }, v, p.biases.position.gradient);
  }
}

TEST(RelativeAttentionTest, NothingCrossesSequences) {
  const Problem p = make_problem({1, 60, 2, 8, 13, 60});
  const auto* start = p.starts.const_data_ptr<int32_t>();
  const at::Tensor x = leaf(p.qkv);
  const at::Tensor y = relative_attention(x, p.starts, p.distances, p.biases);
  for (const int64_t t : {0, 17, 40, 59}) {
    const at::Tensor gradient = torch::autograd::grad({y.select(1, t).sum()}, {x}, {}, true)[0];
    for (int64_t s = 0; s < 60; ++s) {
      const bool visible = s <= t && s >= start[t];
      EXPECT_EQ(gradient.select(1, s).abs().max().item<float>() > 0, visible) << "query " << t << ", key " << s;
    }
  }
}

TEST(RelativeAttentionTest, LargeScoresStayFinite) {
  Problem p = make_problem({1, 40, 1, 16, 40, 40});
  const at::Tensor x = leaf(p.qkv * 100);
  const at::Tensor y = relative_attention(x, at::zeros({1, 40}, at::kInt), p.distances, p.biases);
  backward_from(y, at::ones_like(y));
  EXPECT_TRUE(y.isfinite().all().item<bool>());
  EXPECT_TRUE(x.grad().isfinite().all().item<bool>());
}

TEST(RelativeAttentionTest, FrozenParametersGetNoGradient) {
  const Problem p = make_problem({1, 20, 2, 8, 9, 20});
  const RelativeBiases frozen{{p.biases.content.value, {}}, {p.biases.position.value, {}}};
  EXPECT_FALSE(relative_attention(p.qkv, p.starts, p.distances, frozen).requires_grad());
  const at::Tensor x = leaf(p.qkv);
  backward_from(relative_attention(x, p.starts, p.distances, frozen), at::ones({1, 20, 2, 8}));
  EXPECT_GT(x.grad().abs().max().item<float>(), 0);
}

TEST(RelativeAttentionTest, RefusesWrongInput) {
  const Problem p = make_problem({1, 20, 2, 8, 20, 20});
  const at::Tensor one = at::zeros({1, 20}, at::kInt);
  EXPECT_THROW((void)relative_attention(p.qkv, one, p.distances.slice(0, 1).contiguous(), p.biases), ContractError);
  EXPECT_THROW((void)relative_attention(p.qkv, one.slice(1, 1), p.distances, p.biases), ContractError);
  EXPECT_THROW((void)relative_attention(p.qkv.to(at::kDouble), one, p.distances, p.biases), ContractError);
  EXPECT_THROW((void)relative_attention(p.qkv, at::ones({1, 20}, at::kInt), p.distances, p.biases), ContractError);
  EXPECT_THROW((void)relative_attention(p.qkv, one, p.distances, {p.biases.content, {at::zeros({2, 7}), {}}}),
               ContractError);
}

}  // namespace
}  // namespace gato::kernels
