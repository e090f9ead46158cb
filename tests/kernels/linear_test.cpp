#include "gato/kernels/linear.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "gato/core/error.h"
#include "gato/kernels/reference.h"
#include "kernels/gradient_check.h"

namespace gato::kernels {
namespace {

using namespace testing;

struct LinearSize {
  int64_t rows, in, out;
};

class LinearTest : public ::testing::TestWithParam<LinearSize> {};

TEST_P(LinearTest, MatchesReferenceForwardAndBackward) {
  const auto [rows, in, out] = GetParam();
  const at::Tensor x = random_normal({rows, in}, 1), w = random_normal({out, in}, 2), b = random_normal({out}, 3);
  const at::Tensor dy = random_normal({rows, out}, 4);
  for (const MatmulRoute route : {MatmulRoute::kBlas, MatmulRoute::kOneDnn, MatmulRoute::kAuto}) {
    set_matmul_route(route);
    const at::Tensor x1 = leaf(x);
    const Parameter weight = make_parameter(w), bias = make_parameter(b);
    const at::Tensor y1 = linear(x1, weight, bias);
    backward_from(y1, dy);

    const at::Tensor x2 = leaf(x.to(at::kDouble)), w2 = leaf(w.to(at::kDouble)), b2 = leaf(b.to(at::kDouble));
    const at::Tensor y2 = reference::linear(x2, w2, b2);
    backward_from(y2, dy);
    // Sums of `in`, `out` or `rows` products of standard normal numbers.
    const Tolerance tolerance = tolerance_of(at::kFloat).times(4 + std::sqrt(static_cast<double>(rows + in + out)));
    EXPECT_TRUE(all_close(y1, y2, tolerance));
    if (rows > 0) {
      EXPECT_TRUE(all_close(x1.grad(), x2.grad(), tolerance));
      EXPECT_TRUE(all_close(weight.gradient, w2.grad(), tolerance));
      EXPECT_TRUE(all_close(bias.gradient, b2.grad(), tolerance));
    }
  }
  set_matmul_route(MatmulRoute::kAuto);
}

INSTANTIATE_TEST_SUITE_P(Sizes, LinearTest,
                         ::testing::Values(LinearSize{0, 3, 5}, LinearSize{1, 1, 1}, LinearSize{31, 33, 7},
                                           LinearSize{33, 541, 31}, LinearSize{541, 31, 33}, LinearSize{256, 128, 384}),
                         [](const auto& test) {
                           return cat(test.param.rows, "x", test.param.in, "x", test.param.out);
                         });

TEST(LinearTest, AddsToGradientsThatAreThere) {
  const at::Tensor x = leaf(random_normal({5, 3}, 1));
  Parameter weight = make_parameter(random_normal({4, 3}, 2)), bias = make_parameter(random_normal({4}, 3));
  const at::Tensor dy = random_normal({5, 4}, 4);
  backward_from(linear(x, weight, bias), dy);
  const at::Tensor once = weight.gradient.clone(), bias_once = bias.gradient.clone();
  backward_from(linear(x, weight, bias), dy);
  EXPECT_TRUE(all_close(weight.gradient, once * 2, tolerance_of(at::kFloat)));
  EXPECT_TRUE(all_close(bias.gradient, bias_once * 2, tolerance_of(at::kFloat)));
}

TEST(LinearTest, RecordsParametersEvenWhenInputNeedsNoGradient) {
  const Parameter weight = make_parameter(random_normal({4, 3}, 2));
  const at::Tensor y = linear(random_normal({5, 3}, 1), weight);
  ASSERT_TRUE(y.requires_grad());
  backward_from(y, at::ones({5, 4}));
  EXPECT_GT(weight.gradient.abs().sum().item<float>(), 0);
}

TEST(LinearTest, FrozenParametersStayUntouched) {
  Parameter weight{random_normal({4, 3}, 2), {}};
  EXPECT_FALSE(linear(random_normal({5, 3}, 1), weight).requires_grad());
  const at::Tensor x = leaf(random_normal({5, 3}, 1));
  backward_from(linear(x, weight), at::ones({5, 4}));
  EXPECT_TRUE(all_close(x.grad(), at::ones({5, 4}).matmul(weight.value), tolerance_of(at::kFloat)));
}

TEST(LinearTest, WorksIntoViewsOfAFlatBuffer) {
  // The way of the parameter store: views by variable_data(), updated in place between forward and backward of others.
  const at::Tensor flat = random_normal({64}, 1), gradients = at::zeros({64});
  const auto view = [](const at::Tensor& x, int64_t at, int64_t rows, int64_t columns) {
    return x.slice(0, at, at + rows * columns).view({rows, columns}).variable_data();
  };
  const Parameter a{view(flat, 0, 4, 3), view(gradients, 0, 4, 3)}, b{view(flat, 16, 2, 4), view(gradients, 16, 2, 4)};
  const at::Tensor y = linear(linear(random_normal({5, 3}, 2), a), b);
  gradients.zero_();
  backward_from(y, at::ones({5, 2}));
  EXPECT_GT(gradients.slice(0, 0, 12).abs().min().item<float>(), 0);
  EXPECT_GT(gradients.slice(0, 16, 24).abs().min().item<float>(), 0);
  EXPECT_EQ(gradients.slice(0, 12, 16).abs().max().item<float>(), 0);
}

TEST(LinearTest, RefusesWrongArguments) {
  const Parameter weight = make_parameter(random_normal({4, 3}, 2));
  EXPECT_THROW((void)linear(random_normal({5, 2}, 1), weight), ContractError);
  EXPECT_THROW((void)linear(random_normal({3}, 1), weight), ContractError);
  EXPECT_THROW((void)linear(random_normal({5, 3}, 1).to(at::kDouble), weight), ContractError);
  EXPECT_THROW((void)linear(random_normal({3, 5}, 1).t(), weight), ContractError);
  EXPECT_THROW((void)linear(random_normal({5, 3}, 1), Parameter{}), ContractError);
  EXPECT_THROW((void)linear(random_normal({5, 3}, 1), weight, make_parameter(random_normal({3}, 1))), ContractError);
  EXPECT_THROW((void)linear(random_normal({5, 3}, 1), {leaf(weight.value), weight.gradient}), ContractError);
  try {
    (void)linear(random_normal({5, 2}, 1), weight);
  } catch (const ContractError& error) {
    EXPECT_NE(std::string(error.what()).find("x must have sizes [any, 3], has [5, 2]"), std::string::npos)
        << error.what();
  }
}

TEST(MatmulTest, TransposedViewsAndAccumulation) {
  for (const MatmulRoute route : {MatmulRoute::kBlas, MatmulRoute::kOneDnn}) {
    set_matmul_route(route);
    const at::Tensor a = random_normal({37, 19}, 1), b = random_normal({19, 23}, 2), start = random_normal({37, 23}, 3);
    const at::Tensor expected = start + a.matmul(b);
    for (const bool transpose_a : {false, true}) {
      for (const bool transpose_b : {false, true}) {
        const at::Tensor out = start.clone();
        matmul_into(transpose_a ? a.t().contiguous().t() : a, transpose_b ? b.t().contiguous().t() : b, out, 1);
        EXPECT_TRUE(all_close(out, expected, tolerance_of(at::kFloat).times(4)));
      }
    }
    const at::Tensor empty = start.clone();
    matmul_into(a.slice(1, 0, 0), b.slice(0, 0, 0), empty, 1);
    EXPECT_TRUE(same_bits(empty, start));
    matmul_into(a.slice(1, 0, 0), b.slice(0, 0, 0), empty, 0);
    EXPECT_EQ(empty.abs().max().item<float>(), 0);
  }
  set_matmul_route(MatmulRoute::kAuto);
}

TEST(MatmulTest, SameBitsEveryTime) {
  const at::Tensor a = random_normal({200, 300}, 1), b = random_normal({300, 150}, 2);
  const at::Tensor first = at::empty({200, 150});
  matmul_into(a, b, first, 0);
  for (int i = 0; i < 5; ++i) {
    const at::Tensor again = at::empty({200, 150});
    matmul_into(a.clone(), b.clone(), again, 0);
    EXPECT_TRUE(same_bits(first, again));
  }
}

}  // namespace
}  // namespace gato::kernels
