#include "gato/kernels/geglu.h"

#include <gtest/gtest.h>

#include "gato/core/error.h"
#include "gato/kernels/reference.h"
#include "kernels/gradient_check.h"

namespace gato::kernels {
namespace {

using namespace testing;

class GegluTest : public ::testing::TestWithParam<std::pair<int64_t, int64_t>> {};

TEST_P(GegluTest, MatchesReferenceForwardAndBackward) {
  const auto [rows, half] = GetParam();
  const at::Tensor x = random_normal({rows, 2 * half}, 1) * 3, dy = random_normal({rows, half}, 2);
  const at::Tensor fast = leaf(x), slow = leaf(x.to(at::kDouble));
  const at::Tensor y1 = geglu(fast), y2 = reference::geglu(slow);
  EXPECT_TRUE(all_close(y1, y2, tolerance_of(at::kFloat)));
  if (x.numel() == 0) return;
  backward_from(y1, dy);
  backward_from(y2, dy);
  EXPECT_TRUE(all_close(fast.grad(), slow.grad(), tolerance_of(at::kFloat)));
}

INSTANTIATE_TEST_SUITE_P(Sizes, GegluTest,
                         ::testing::Values(std::pair<int64_t, int64_t>{0, 4}, std::pair<int64_t, int64_t>{1, 1},
                                           std::pair<int64_t, int64_t>{31, 33}, std::pair<int64_t, int64_t>{541, 31},
                                           std::pair<int64_t, int64_t>{64, 256}),
                         [](const auto& test) { return cat(test.param.first, "x", test.param.second); });

TEST(GegluTest, ExtremeGates) {
  const at::Tensor gates = at::tensor({-INFINITY, -1e30f, -100.f, -13.f, -5.f, 0.f, 5.f, 100.f, 1e30f});
  const at::Tensor x = at::stack({gates, at::ones({9})}, 1).contiguous();
  const at::Tensor expected = at::gelu(gates);
  EXPECT_TRUE(all_close(geglu(x).view(-1).slice(0, 1), expected.slice(0, 1), tolerance_of(at::kFloat)));
  EXPECT_TRUE(geglu(at::full({1, 2}, NAN)).isnan().all().item<bool>());
}

TEST(GegluTest, RefusesWrongArguments) {
  EXPECT_THROW((void)geglu(random_normal({3, 5}, 1)), ContractError);
  EXPECT_THROW((void)geglu(random_normal({4}, 1)), ContractError);
  EXPECT_THROW((void)geglu(random_normal({3, 4}, 1).to(at::kHalf)), ContractError);
}

}  // namespace
}  // namespace gato::kernels
