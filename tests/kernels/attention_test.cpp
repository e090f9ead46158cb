#include "gato/kernels/attention.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "gato/core/error.h"
#include "gato/kernels/reference.h"
#include "kernels/gradient_check.h"

namespace gato::kernels {
namespace {

using namespace testing;

struct AttentionCase {
  int64_t rows, tokens, heads, head_dim, longest;
  bool rotary;
};

RotaryTable table_for(const AttentionCase& c) {
  return c.rotary ? make_rotary_table(c.tokens, c.head_dim, 10000) : RotaryTable{};
}

class AttentionTest : public ::testing::TestWithParam<AttentionCase> {};

TEST_P(AttentionTest, MatchesReferenceForwardAndBackward) {
  const AttentionCase c = GetParam();
  const at::Tensor x = random_normal({c.rows, c.tokens, 3, c.heads, c.head_dim}, 1);
  const at::Tensor starts = random_sequence_starts(c.rows, c.tokens, c.longest, 2);
  const at::Tensor dy = random_normal({c.rows, c.tokens, c.heads, c.head_dim}, 3);
  const at::Tensor fast = leaf(x), slow = leaf(x.to(at::kDouble));
  const at::Tensor y = document_attention(fast, starts, table_for(c));
  const at::Tensor expected = reference::document_attention(slow, starts, table_for(c));
  EXPECT_TRUE(all_close(y, expected, tolerance_of(at::kFloat)));
  if (x.numel() == 0) return;
  backward_from(y, dy);
  backward_from(expected, dy);
  // A key's gradient sums over up to `longest` queries.
  EXPECT_TRUE(all_close(fast.grad(), slow.grad(), tolerance_of(at::kFloat).times(4)));
}

INSTANTIATE_TEST_SUITE_P(Shapes, AttentionTest,
                         ::testing::Values(AttentionCase{0, 7, 2, 8, 3, true}, AttentionCase{2, 0, 2, 8, 3, true},
                                           AttentionCase{1, 1, 1, 1, 1, false}, AttentionCase{1, 1, 1, 2, 1, true},
                                           AttentionCase{3, 31, 2, 6, 5, true}, AttentionCase{2, 33, 3, 32, 33, true},
                                           AttentionCase{2, 100, 4, 32, 12, true},
                                           AttentionCase{1, 192, 2, 64, 192, true},
                                           AttentionCase{1, 67, 1, 128, 9, true},
                                           AttentionCase{1, 541, 1, 17, 541, false},
                                           AttentionCase{2, 48, 2, 20, 1, true}),
                         [](const auto& test) {
                           const AttentionCase& c = test.param;
                           return cat("rows", c.rows, "_tokens", c.tokens, "_heads", c.heads, "_dim", c.head_dim,
                                      "_longest", c.longest, c.rotary ? "_rotary" : "");
                         });

TEST(AttentionTest, MatchesFiniteDifferences) {
  const at::Tensor x = random_normal({1, 21, 3, 2, 8}, 1);
  const at::Tensor starts = random_sequence_starts(1, 21, 8, 2);
  const at::Tensor weights = random_normal({1, 21, 2, 8}, 3);
  const RotaryTable rotary = make_rotary_table(21, 8, 100);
  const at::Tensor input = leaf(x);
  backward_from(document_attention(input, starts, rotary), weights);
  for (uint64_t seed = 10; seed < 14; ++seed) {
    EXPECT_TRUE(matches_finite_difference(
        [&](const at::Tensor& at) { return inner_product(document_attention(at, starts, rotary), weights); }, x,
        input.grad(), seed));
  }
}

TEST(AttentionTest, NothingCrossesSequences) {
  const at::Tensor starts = random_sequence_starts(1, 60, 13, 5);
  const auto* start = starts.const_data_ptr<int32_t>();
  const at::Tensor x = leaf(random_normal({1, 60, 3, 2, 8}, 1));
  const at::Tensor y = document_attention(x, starts);
  for (const int64_t t : {0, 17, 40, 59}) {
    const at::Tensor gradient = torch::autograd::grad({y.select(1, t).sum()}, {x}, {}, true)[0];
    for (int64_t s = 0; s < 60; ++s) {
      const float reach = gradient.select(1, s).abs().max().item<float>();
      const bool visible = s <= t && s >= start[t];
      EXPECT_EQ(reach > 0, visible) << "query " << t << ", key " << s;
    }
  }
}

TEST(AttentionTest, LargeScoresStayFinite) {
  const at::Tensor x = leaf(random_normal({1, 40, 3, 1, 16}, 1) * 100);
  const at::Tensor starts = at::zeros({1, 40}, at::kInt);
  const at::Tensor y = document_attention(x, starts);
  backward_from(y, at::ones({1, 40, 1, 16}));
  EXPECT_TRUE(y.isfinite().all().item<bool>());
  EXPECT_TRUE(x.grad().isfinite().all().item<bool>());
}

TEST(AttentionTest, NotANumberStaysInItsSequence) {
  at::Tensor x = random_normal({1, 30, 3, 1, 16}, 1);
  x.select(1, 3).fill_(NAN);
  const at::Tensor starts = at::zeros({1, 30}, at::kInt);
  starts.slice(1, 10).fill_(10);
  const at::Tensor y = document_attention(x, starts);
  EXPECT_TRUE(y.slice(1, 3, 10).isnan().all().item<bool>());
  EXPECT_TRUE(y.slice(1, 10).isfinite().all().item<bool>());
}

TEST(AttentionTest, SameBitsForAnyNumberOfThreads) {
  const at::Tensor x = random_normal({4, 64, 3, 4, 32}, 1);
  const at::Tensor starts = random_sequence_starts(4, 64, 12, 2);
  const int threads = at::get_num_threads();
  std::vector<at::Tensor> results;
  for (const int n : {1, 2}) {
    at::set_num_threads(n);
    const at::Tensor input = leaf(x);
    const at::Tensor y = document_attention(input, starts, make_rotary_table(64, 32, 10000));
    backward_from(y, at::ones_like(y));
    results.push_back(at::cat({y.detach().view(-1), input.grad().view(-1)}));
  }
  at::set_num_threads(threads);
  EXPECT_TRUE(same_bits(results[0], results[1]));
}

TEST(AttentionTest, RefusesWrongArguments) {
  const at::Tensor x = random_normal({1, 6, 3, 2, 4}, 1);
  const at::Tensor starts = at::zeros({1, 6}, at::kInt);
  EXPECT_THROW((void)document_attention(random_normal({1, 6, 2, 2, 4}, 1), starts), ContractError);
  EXPECT_THROW((void)document_attention(x, starts.to(at::kLong)), ContractError);
  EXPECT_THROW((void)document_attention(x, at::zeros({1, 5}, at::kInt)), ContractError);
  EXPECT_THROW((void)document_attention(x, starts, make_rotary_table(5, 4, 10000)), ContractError);
  EXPECT_THROW((void)document_attention(x, starts, make_rotary_table(6, 8, 10000)), ContractError);
  EXPECT_THROW((void)make_rotary_table(6, 5, 10000), ContractError);
  for (const std::vector<int32_t>& bad : std::vector<std::vector<int32_t>>{
           {1, 1, 1, 1, 1, 1}, {0, 0, 2, 0, 4, 4}, {0, 0, 3, 3, 3, 3}, {0, 0, -1, 0, 0, 0}, {0, 0, 0, 2, 2, 2}}) {
    EXPECT_THROW((void)document_attention(x, at::tensor(bad, at::kInt).view({1, 6})), ContractError);
  }
}

}  // namespace
}  // namespace gato::kernels
