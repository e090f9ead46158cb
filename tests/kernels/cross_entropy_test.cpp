#include "gato/kernels/cross_entropy.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "gato/core/error.h"
#include "gato/kernels/reference.h"
#include "kernels/gradient_check.h"

namespace gato::kernels {
namespace {

using namespace testing;

struct HeadCase {
  int64_t rows, width, vocabulary, positions;
  double sigma;
  int64_t max_logits;
};

struct HeadInput {
  at::Tensor hidden, table, positions, targets, weights;
};

HeadInput make_input(const HeadCase& c) {
  return {random_normal({c.rows, c.width}, 1), random_normal({c.vocabulary, c.width}, 2) * 0.3,
          std::get<0>(at::randperm(c.rows, at::kLong).slice(0, 0, c.positions).sort()),
          random_integers({c.positions}, 0, c.vocabulary, 3), random_normal({c.positions}, 4).abs()};
}

class HeadTest : public ::testing::TestWithParam<HeadCase> {};

TEST_P(HeadTest, MatchesReferenceForwardAndBackward) {
  const HeadCase c = GetParam();
  const HeadInput in = make_input(c);
  const SoftTargets soft{c.vocabulary / 3, c.vocabulary / 2, c.sigma};
  const at::Tensor hidden1 = leaf(in.hidden), hidden2 = leaf(in.hidden.to(at::kDouble));
  const Parameter table = make_parameter(in.table);
  const at::Tensor table2 = leaf(in.table.to(at::kDouble));
  const CrossEntropyResult fast =
      head_cross_entropy(hidden1, table, in.positions, in.targets, in.weights, soft, c.max_logits);
  const CrossEntropyResult slow =
      reference::head_cross_entropy(hidden2, table2, in.positions, in.targets, in.weights, soft);
  const Tolerance tolerance = tolerance_of(at::kFloat).times(4);  // logits sum over `width` products
  EXPECT_TRUE(all_close(fast.loss, slow.loss, tolerance));
  EXPECT_TRUE(all_close(fast.nll, slow.nll, tolerance));
  EXPECT_FALSE(fast.nll.requires_grad());
  if (c.positions == 0) {
    EXPECT_EQ(fast.loss.item<float>(), 0);
    return;
  }
  torch::autograd::backward({fast.loss * 0.5});
  torch::autograd::backward({slow.loss * 0.5});
  EXPECT_TRUE(all_close(hidden1.grad(), hidden2.grad(), tolerance));
  EXPECT_TRUE(all_close(table.gradient, table2.grad(), tolerance));
}

INSTANTIATE_TEST_SUITE_P(Cases, HeadTest,
                         ::testing::Values(HeadCase{5, 3, 7, 0, 0, 1 << 20}, HeadCase{1, 1, 1, 1, 0, 1 << 20},
                                           HeadCase{33, 31, 541, 17, 0, 1 << 20}, HeadCase{33, 31, 541, 17, 4, 1 << 20},
                                           HeadCase{100, 16, 300, 100, 2.5, 900}, HeadCase{64, 16, 300, 31, 0, 1},
                                           HeadCase{40, 128, 2100, 33, 8, 1 << 24}),
                         [](const auto& test) {
                           const HeadCase& c = test.param;
                           return cat("rows", c.rows, "_width", c.width, "_vocabulary", c.vocabulary, "_positions",
                                      c.positions, c.sigma > 0 ? "_soft" : "", "_chunk", c.max_logits);
                         });

TEST(HeadTest, ChunksDoNotChangeTheLoss) {
  const HeadInput in = make_input({90, 24, 200, 50, 3, 0});
  const Parameter table = make_parameter(in.table);
  const float whole = head_cross_entropy(in.hidden, table, in.positions, in.targets, in.weights).loss.item<float>();
  const float parts =
      head_cross_entropy(in.hidden, table, in.positions, in.targets, in.weights, {}, 999).loss.item<float>();
  EXPECT_NEAR(whole, parts, 1e-4);
}

TEST(HeadTest, SoftTargetsAtTheBorderStayInsideTheBins) {
  // A target at the last bin: the Gaussian is cut there and normalised, and ids behind it expect nothing.
  const at::Tensor hidden = random_normal({1, 8}, 1);
  const Parameter table = make_parameter(random_normal({30, 8}, 2));
  const at::Tensor input = leaf(hidden);
  const CrossEntropyResult result = head_cross_entropy(input, table, at::zeros({1}, at::kLong),
                                                       at::tensor({19}, at::kLong), at::ones({1}), {10, 10, 3.0});
  torch::autograd::backward({result.loss});
  const at::Tensor p = hidden.matmul(table.value.t()).softmax(1);
  at::Tensor wanted = at::exp((at::arange(30, at::kFloat) - 19).square() / -18.0);
  wanted.slice(0, 0, 10).zero_();
  wanted.slice(0, 20).zero_();
  wanted = wanted / wanted.sum();
  EXPECT_TRUE(all_close(input.grad(), (p - wanted).matmul(table.value), tolerance_of(at::kFloat).times(4)));
}

TEST(HeadTest, MatchesFiniteDifferences) {
  const HeadInput in = make_input({12, 16, 40, 9, 2, 0});
  const SoftTargets soft{10, 20, 2};
  const Parameter table = make_parameter(in.table);
  const at::Tensor input = leaf(in.hidden);
  torch::autograd::backward({head_cross_entropy(input, table, in.positions, in.targets, in.weights, soft).loss});
  for (uint64_t seed = 30; seed < 33; ++seed) {
    EXPECT_TRUE(matches_finite_difference(
        [&](const at::Tensor& at) {
          return head_cross_entropy(at, table, in.positions, in.targets, in.weights, soft).loss.item<double>();
        },
        in.hidden, input.grad(), seed, 3e-3));
    EXPECT_TRUE(matches_finite_difference(
        [&](const at::Tensor& at) {
          return head_cross_entropy(in.hidden, make_parameter(at), in.positions, in.targets, in.weights, soft)
              .loss.item<double>();
        },
        in.table, table.gradient, seed, 3e-3));
  }
}

TEST(HeadTest, ASecondBackwardThroughAKeptGraphAddsTheSameAgain) {
  const HeadInput in = make_input({20, 8, 50, 11, 0, 0});
  const Parameter table = make_parameter(in.table);
  const at::Tensor loss = head_cross_entropy(leaf(in.hidden), table, in.positions, in.targets, in.weights).loss;
  torch::autograd::backward({loss}, {}, true);
  const at::Tensor once = table.gradient.clone();
  torch::autograd::backward({loss});
  EXPECT_TRUE(all_close(table.gradient, once * 2, tolerance_of(at::kFloat)));
}

TEST(HeadTest, ExtremeLogitsStayFinite) {
  const at::Tensor hidden = leaf(at::full({2, 1}, 1000.0f));
  const Parameter table = make_parameter(at::tensor({1.0f, 0.0f, -1.0f}).view({3, 1}));
  const CrossEntropyResult result =
      head_cross_entropy(hidden, table, at::arange(2, at::kLong), at::tensor({0, 2}, at::kLong), at::ones({2}));
  EXPECT_TRUE(all_close(result.nll, at::tensor({0.0f, 2000.0f}), tolerance_of(at::kFloat)));
  torch::autograd::backward({result.loss});
  EXPECT_TRUE(hidden.grad().isfinite().all().item<bool>());
}

TEST(HeadTest, RefusesWrongArguments) {
  const HeadInput in = make_input({9, 4, 20, 5, 0, 0});
  const Parameter table = make_parameter(in.table);
  const auto call = [&](const at::Tensor& positions, const at::Tensor& targets, const at::Tensor& weights,
                        const SoftTargets& soft = {}) {
    (void)head_cross_entropy(in.hidden, table, positions, targets, weights, soft);
  };
  EXPECT_NO_THROW(call(in.positions, in.targets, in.weights));
  EXPECT_THROW(call(in.positions + 9, in.targets, in.weights), ContractError);
  EXPECT_THROW(call(in.positions.flip(0), in.targets, in.weights), ContractError);
  EXPECT_THROW(call(in.positions, in.targets + 20, in.weights), ContractError);
  EXPECT_THROW(call(in.positions, in.targets - 20, in.weights), ContractError);
  EXPECT_THROW(call(in.positions, in.targets.slice(0, 1), in.weights), ContractError);
  EXPECT_THROW(call(in.positions, in.targets, in.weights.to(at::kDouble)), ContractError);
  EXPECT_THROW(call(in.positions, in.targets, in.weights, {15, 10, 2.0}), ContractError);
}

}  // namespace
}  // namespace gato::kernels
