#include "gato/kernels/rows.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "gato/core/error.h"
#include "support/tensor_compare.h"

namespace gato::kernels {
namespace {

using namespace gato::testing;

TEST(RowsTest, AreGatheredAndSpread) {
  const at::Tensor positions = at::tensor({0, 3, 4}, at::kLong);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const at::Tensor x = random_normal({6, 5}, 1).to(type);
    const at::Tensor some = gather_rows(x, positions);
    EXPECT_TRUE(same_bits(some, x.index_select(0, positions)));
    at::Tensor expected = at::zeros_like(x);
    for (const int64_t row : {0, 3, 4}) expected[row] = x[row];
    EXPECT_TRUE(same_bits(spread_rows(some, positions, 6), expected));
  }
}

TEST(RowsTest, NoRowsAreTaken) {
  const at::Tensor none = at::empty({0}, at::kLong);
  EXPECT_EQ(gather_rows(random_normal({3, 2}, 1), none).sizes(), (at::IntArrayRef{0, 2}));
  EXPECT_TRUE(same_bits(spread_rows(at::empty({0, 2}), none, 3), at::zeros({3, 2})));
}

TEST(RowsTest, WhatDoesNotFitIsRefused) {
  const at::Tensor x = random_normal({3, 2}, 1), positions = at::tensor({0, 1}, at::kLong);
  EXPECT_THROW((void)gather_rows(x, positions.to(at::kInt)), ContractError);
  EXPECT_THROW((void)gather_rows(x.view(-1), positions), ContractError);
  EXPECT_THROW((void)gather_rows(x.to(at::kDouble), positions), ContractError);
  EXPECT_THROW((void)spread_rows(x, positions, 5), ContractError);
  EXPECT_THROW((void)spread_rows(x.narrow(0, 0, 2), positions, -1), ContractError);
  EXPECT_THROW((void)gather_rows(random_normal({3, 2}, 1).requires_grad_(true), positions), ContractError);
}

}  // namespace
}  // namespace gato::kernels
