#include "gato/kernels/dropout.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "gato/core/error.h"
#include "kernels/gradient_check.h"

namespace gato::kernels {
namespace {

using namespace testing;

TEST(DropoutTest, KeepsTheExpectationAndTheShare) {
  const at::Tensor y = dropout(at::ones({400, 101}), 0.1, {.key = 3, .row_tokens = 40});
  const at::Tensor dropped = y.eq(0);
  EXPECT_NEAR(dropped.to(at::kFloat).mean().item<double>(), 0.1, 0.006);  // four standard deviations
  const at::Tensor kept = y.masked_select(dropped.logical_not());
  EXPECT_TRUE(all_close(kept, at::full(kept.sizes(), 1 / 0.9), {0, 1e-6}));
  // No row and no column is special.
  EXPECT_GT(dropped.to(at::kFloat).mean(0).min().item<float>(), 0.02);
  EXPECT_LT(dropped.to(at::kFloat).mean(0).max().item<float>(), 0.2);
  EXPECT_LT(dropped.to(at::kFloat).mean(1).max().item<float>(), 0.25);
}

TEST(DropoutTest, BackwardUsesTheSameMask) {
  const at::Tensor x = leaf(random_normal({30, 17}, 1));
  const at::Tensor y = dropout(x, 0.3, {.key = 5, .first_row = 7, .row_tokens = 10});
  const at::Tensor dy = random_normal({30, 17}, 2);
  backward_from(y, dy);
  EXPECT_TRUE(same_bits(x.grad(), at::where(y.detach().eq(0), at::zeros_like(dy), dy * static_cast<float>(1 / 0.7))));
}

TEST(DropoutTest, DependsOnRowAndPositionAndNotOnTheCut) {
  const at::Tensor x = at::ones({60, 9});
  const at::Tensor whole = dropout(x, 0.5, {.key = 1, .first_row = 100, .row_tokens = 20});
  const at::Tensor later = dropout(x.slice(0, 20), 0.5, {.key = 1, .first_row = 101, .row_tokens = 20});
  EXPECT_TRUE(same_bits(whole.slice(0, 20, 40), later.slice(0, 0, 20)));
  EXPECT_FALSE(same_bits(whole.slice(0, 0, 20), whole.slice(0, 20, 40)));
  EXPECT_FALSE(same_bits(whole[0], whole[1]));
  EXPECT_FALSE(same_bits(whole, dropout(x, 0.5, {.key = 2, .first_row = 100, .row_tokens = 20})));
  const int threads = at::get_num_threads();
  at::set_num_threads(2);
  const at::Tensor big = at::ones({4096, 33});
  const at::Tensor two = dropout(big, 0.5, {.key = 1, .row_tokens = 64});
  at::set_num_threads(1);
  EXPECT_TRUE(same_bits(two, dropout(big, 0.5, {.key = 1, .row_tokens = 64})));
  at::set_num_threads(threads);
}

TEST(DropoutTest, ZeroProbabilityIsTheInputAndWrongInputIsRefused) {
  const at::Tensor x = random_normal({6, 5}, 1);
  EXPECT_TRUE(same_bits(dropout(x, 0, {.row_tokens = 3}), x));
  EXPECT_EQ(dropout(at::empty({0, 5}), 0.5, {.row_tokens = 3}).numel(), 0);
  EXPECT_THROW((void)dropout(x, 1, {.row_tokens = 3}), ContractError);
  EXPECT_THROW((void)dropout(x, NAN, {.row_tokens = 3}), ContractError);
  EXPECT_THROW((void)dropout(x, 0.5, {.row_tokens = 4}), ContractError);
  EXPECT_THROW((void)dropout(x.to(at::kDouble), 0.5, {.row_tokens = 3}), ContractError);
}

}  // namespace
}  // namespace gato::kernels
