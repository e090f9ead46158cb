// Every operation with bf16 activations, against the reference in fp64 on the same rounded inputs.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <tuple>

#include "gato/core/error.h"
#include "gato/kernels/attention.h"
#include "gato/kernels/cached_attention.h"
#include "gato/kernels/cross_entropy.h"
#include "gato/kernels/geglu.h"
#include "gato/kernels/layer_norm.h"
#include "gato/kernels/linear.h"
#include "gato/kernels/optimizer.h"
#include "gato/kernels/reference.h"
#include "kernels/gradient_check.h"

namespace gato::kernels {
namespace {

using namespace testing;

const Tolerance kTolerance = tolerance_of(at::kBFloat16);

at::Tensor rounded(at::IntArrayRef sizes, uint64_t seed) { return random_normal(sizes, seed, at::kBFloat16); }
at::Tensor wide(const at::Tensor& x) { return leaf(x.to(at::kDouble)); }

Parameter make_bf16_parameter(const at::Tensor& x) {
  Parameter parameter = make_parameter(x.to(at::kFloat));
  parameter.compute = parameter.value.to(at::kBFloat16);
  return parameter;
}

TEST(Bf16Test, RoundingIsToNearestEvenAsLibTorchDoesIt) {
  at::Tensor x = random_normal({4099}, 1) * 1e3;
  for (int64_t i = 0; i < 2000; ++i) {  // every kind of tail, and ties
    const uint32_t bits = 0x3F800000U + static_cast<uint32_t>(i) * 0x4001U;
    x.mutable_data_ptr<float>()[i] = std::bit_cast<float>(bits);
  }
  const float special[] = {0.0f,       -0.0f,      INFINITY, -INFINITY, 1e-40f, std::bit_cast<float>(0x3F808000U),
                           3.4028e38f, -3.4028e38f};
  for (size_t i = 0; i < std::size(special); ++i) x.mutable_data_ptr<float>()[2000 + i] = special[i];
  const at::Tensor y = at::empty({4099}, at::kBFloat16);
  round_to_bf16(x, y);
  EXPECT_TRUE(same_bits(y, x.to(at::kBFloat16)));
  for (const uint32_t nan : {0x7FC00000U, 0x7F800001U, 0xFF80FFFFU}) {
    round_to_bf16(at::full({17}, std::bit_cast<float>(nan)), y.slice(0, 0, 17));
    EXPECT_TRUE(y.slice(0, 0, 17).isnan().all().item<bool>()) << nan;
  }
}

class Bf16LinearTest : public ::testing::TestWithParam<std::tuple<int64_t, int64_t, int64_t>> {};

TEST_P(Bf16LinearTest, MatchesReferenceOnEveryRoute) {
  const auto [rows, in, out] = GetParam();
  const at::Tensor x = rounded({rows, in}, 1), w = rounded({out, in}, 2), b = random_normal({out}, 3);
  const at::Tensor dy = rounded({rows, out}, 4);
  const at::Tensor x2 = wide(x), w2 = wide(w), b2 = wide(b);
  const at::Tensor y2 = reference::linear(x2, w2, b2);
  backward_from(y2, dy);
  // Sums of products of standard normal numbers, rounded once: the error follows the size of the sum.
  const auto tolerance = [](int64_t terms) { return kTolerance.times(1 + std::sqrt(static_cast<double>(terms)) / 4); };
  for (const MatmulRoute route : {MatmulRoute::kBlas, MatmulRoute::kAuto}) {
    set_matmul_route(route);
    const at::Tensor x1 = leaf(x);
    const Parameter weight = make_bf16_parameter(w), bias = make_parameter(b);
    const at::Tensor y1 = linear(x1, weight, bias);
    EXPECT_EQ(y1.scalar_type(), at::kBFloat16);
    EXPECT_TRUE(all_close(y1, y2, tolerance(in)));
    backward_from(y1, dy);
    if (rows == 0) continue;
    EXPECT_TRUE(all_close(x1.grad(), x2.grad(), tolerance(out)));
    EXPECT_EQ(weight.gradient.scalar_type(), at::kFloat);
    EXPECT_TRUE(all_close(weight.gradient, w2.grad(), tolerance(rows)));
    EXPECT_TRUE(all_close(bias.gradient, b2.grad(), tolerance_of(at::kFloat).times(64)));  // sums in fp32
  }
  set_matmul_route(MatmulRoute::kAuto);
}

INSTANTIATE_TEST_SUITE_P(Sizes, Bf16LinearTest,
                         ::testing::Values(std::tuple{0, 3, 5}, std::tuple{1, 1, 1}, std::tuple{31, 33, 7},
                                           std::tuple{33, 541, 31}, std::tuple{541, 31, 33}, std::tuple{256, 128, 384}),
                         [](const auto& test) {
                           return cat(std::get<0>(test.param), "x", std::get<1>(test.param), "x",
                                      std::get<2>(test.param));
                         });

TEST(Bf16Test, ProductsInto32BitsAccumulate) {
  const at::Tensor a = rounded({20, 40}, 1), b = rounded({40, 30}, 2);
  const at::Tensor expected = a.to(at::kDouble).matmul(b.to(at::kDouble));
  for (const MatmulRoute route : {MatmulRoute::kBlas, MatmulRoute::kAuto}) {
    set_matmul_route(route);
    const at::Tensor out = random_normal({20, 30}, 3), before = out.clone();
    matmul_into(a, b, out, 1);
    EXPECT_TRUE(all_close(out, expected + before, kTolerance.times(2)));
    matmul_into(a, b, out, 0);
    EXPECT_TRUE(all_close(out, expected, kTolerance.times(2)));
  }
  set_matmul_route(MatmulRoute::kAuto);
  EXPECT_THROW(matmul_into(a, b.to(at::kFloat), at::empty({20, 30}), 0), ContractError);
  EXPECT_THROW(matmul_into(a.to(at::kFloat), b.to(at::kFloat), at::empty({20, 30}, at::kBFloat16), 0), ContractError);
}

TEST(Bf16Test, GegluMatchesReference) {
  for (const auto& [rows, half] : std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {31, 33}, {541, 31}, {64, 256}}) {
    const at::Tensor x = rounded({rows, 2 * half}, 1), dy = rounded({rows, half}, 2);
    const at::Tensor x1 = leaf(x), x2 = wide(x);
    const at::Tensor y1 = geglu(x1), y2 = reference::geglu(x2);
    EXPECT_EQ(y1.scalar_type(), at::kBFloat16);
    EXPECT_TRUE(all_close(y1, y2, kTolerance));
    backward_from(y1, dy);
    backward_from(y2, dy);
    EXPECT_TRUE(all_close(x1.grad(), x2.grad(), kTolerance));
  }
}

TEST(Bf16Test, ResidualLayerNormMatchesReference) {
  for (const int64_t width : {17, 128, 541}) {
    for (const bool scaled : {false, true}) {
      const int64_t rows = 24;
      const at::Tensor x = random_normal({rows, width}, 1), delta = rounded({rows, width}, 2);
      const at::Tensor scale = scaled ? random_normal({4}, 3) : at::Tensor();
      const at::Tensor g = random_normal({width}, 4), b = random_normal({width}, 5);
      const at::Tensor d_sum = random_normal({rows, width}, 6), dy = rounded({rows, width}, 7);
      const Parameter gain = make_parameter(g), offset = make_parameter(b);
      const at::Tensor x1 = leaf(x), delta1 = leaf(delta);
      const auto [sum1, y1] = residual_layer_norm(x1, delta1, scale, gain, offset);
      const at::Tensor x2 = wide(x), delta2 = wide(delta), g2 = wide(g), b2 = wide(b);
      const auto [sum2, y2] =
          reference::residual_layer_norm(x2, delta2, scaled ? scale.to(at::kDouble) : scale, g2, b2);
      EXPECT_EQ(sum1.scalar_type(), at::kFloat);
      EXPECT_EQ(y1.scalar_type(), at::kBFloat16);
      EXPECT_TRUE(all_close(sum1, sum2, tolerance_of(at::kFloat)));
      EXPECT_TRUE(all_close(y1, y2, kTolerance));
      torch::autograd::backward({sum1, y1}, {d_sum, dy});
      torch::autograd::backward({sum2, y2}, {d_sum.to(at::kDouble), dy.to(at::kDouble)});
      EXPECT_TRUE(all_close(x1.grad(), x2.grad(), tolerance_of(at::kFloat).times(8)));  // in fp32 throughout
      EXPECT_EQ(delta1.grad().scalar_type(), at::kBFloat16);
      EXPECT_TRUE(all_close(delta1.grad(), delta2.grad(), kTolerance));
      EXPECT_TRUE(all_close(gain.gradient, g2.grad(), tolerance_of(at::kFloat).times(16)));
      EXPECT_TRUE(all_close(offset.gradient, b2.grad(), tolerance_of(at::kFloat).times(16)));
    }
  }
}

TEST(Bf16Test, LayerNormGivesTheTypeAskedFor) {
  const at::Tensor x = random_normal({9, 33}, 1);
  const Parameter gain = make_parameter(random_normal({33}, 2)), offset = make_parameter(random_normal({33}, 3));
  const at::Tensor y = layer_norm(x, gain, offset, at::kBFloat16);
  EXPECT_TRUE(same_bits(y, layer_norm(x, gain, offset).to(at::kBFloat16)));
  EXPECT_THROW((void)layer_norm(x, gain, offset, at::kHalf), ContractError);
}

TEST(Bf16Test, AttentionMatchesReference) {
  struct Case {
    int64_t rows, tokens, heads, head_dim, longest;
  };
  for (const Case& c : {Case{1, 1, 1, 2, 1}, Case{3, 31, 2, 6, 5}, Case{2, 100, 4, 32, 12}, Case{1, 192, 2, 64, 192},
                        Case{1, 131, 1, 18, 131}}) {
    const RotaryTable rotary = make_rotary_table(c.tokens, c.head_dim, 10000);
    const at::Tensor x = rounded({c.rows, c.tokens, 3, c.heads, c.head_dim}, 1);
    const at::Tensor starts = random_sequence_starts(c.rows, c.tokens, c.longest, 2);
    const at::Tensor dy = rounded({c.rows, c.tokens, c.heads, c.head_dim}, 3);
    const at::Tensor x1 = leaf(x), x2 = wide(x);
    const at::Tensor y1 = document_attention(x1, starts, rotary),
                     y2 = reference::document_attention(x2, starts, rotary);
    EXPECT_EQ(y1.scalar_type(), at::kBFloat16);
    EXPECT_TRUE(all_close(y1, y2, kTolerance));
    backward_from(y1, dy);
    backward_from(y2, dy);
    EXPECT_TRUE(all_close(x1.grad(), x2.grad(), kTolerance));  // inside everything is fp32
  }
}

TEST(Bf16Test, CachedAttentionMatchesWholeSequences) {
  const RotaryTable rotary = make_rotary_table(40, 12, 10000);
  const at::Tensor qkv = rounded({1, 40, 3, 2, 12}, 1);
  const at::Tensor expected = document_attention(qkv, at::zeros({1, 40}, at::kInt), rotary);
  const AttentionCache cache = make_attention_cache(1, 40, 2, 12);
  for (int64_t at = 0; at < 40;) {
    const int64_t count = std::min<int64_t>(40 - at, 1 + at % 7);
    const at::Tensor out = cached_attention(qkv[0].slice(0, at, at + count).contiguous(),
                                            std::vector<CacheRun>{{0, at, count}}, cache, rotary);
    EXPECT_EQ(out.scalar_type(), at::kBFloat16);
    EXPECT_TRUE(all_close(out, expected[0].slice(0, at, at + count).to(at::kDouble), kTolerance));
    at += count;
  }
}

TEST(Bf16Test, HeadMatchesReference) {
  for (const double sigma : {0.0, 2.5}) {
    for (const int64_t max_logits : {int64_t{1} << 24, int64_t{900}}) {
      const at::Tensor hidden = rounded({60, 32}, 1), table = (random_normal({301, 32}, 2) * 0.3).to(at::kBFloat16);
      const at::Tensor positions = at::arange(0, 60, 2, at::kLong), targets = random_integers({30}, 0, 301, 3);
      const at::Tensor weights = random_normal({30}, 4).abs();
      const SoftTargets soft{100, 150, sigma};
      const at::Tensor hidden1 = leaf(hidden), hidden2 = wide(hidden), table2 = wide(table);
      const Parameter table1 = make_bf16_parameter(table);
      const auto fast = head_cross_entropy(hidden1, table1, positions, targets, weights, soft, max_logits);
      const auto slow = reference::head_cross_entropy(hidden2, table2, positions, targets, weights, soft);
      EXPECT_EQ(fast.loss.scalar_type(), at::kFloat);
      // Logits of size 5 are rounded to bf16: 0.02 each, which is the error of a position's loss.
      EXPECT_TRUE(all_close(fast.loss, slow.loss, kTolerance));
      EXPECT_TRUE(all_close(fast.nll, slow.nll, kTolerance.times(3)));
      torch::autograd::backward({fast.loss});
      torch::autograd::backward({slow.loss});
      EXPECT_TRUE(all_close(hidden1.grad(), hidden2.grad(), kTolerance.times(2)));
      EXPECT_TRUE(all_close(table1.gradient, table2.grad(), kTolerance.times(2)));
    }
  }
}

TEST(Bf16Test, OptimizerWritesTheCopyInTheSamePass) {
  const int64_t n = 40'003;
  const std::vector<UpdateSpan> spans{{0, 541, true}, {544, 39'459, false}};
  at::Tensor w1 = random_normal({n}, 1), m1 = at::zeros({n}), v1 = at::zeros({n});
  at::Tensor w2 = w1.clone(), m2 = m1.clone(), v2 = v1.clone();
  const at::Tensor copy = w1.to(at::kBFloat16);
  for (int64_t step = 1; step <= 3; ++step) {
    const at::Tensor g = random_normal({n}, static_cast<uint64_t>(100 + step));
    const AdamWStep options{.learning_rate = 1e-2, .weight_decay = 0.1, .step = step};
    adamw_step(w1, g, m1, v1, spans, options, copy);
    adamw_step(w2, g, m2, v2, spans, options);
    EXPECT_TRUE(same_bits(w1, w2));
    EXPECT_TRUE(same_bits(copy, w1.to(at::kBFloat16)));
  }
  EXPECT_THROW(adamw_step(w1, w2, m1, v1, spans, {}, at::zeros({n})), ContractError);
  EXPECT_THROW(adamw_step(w1, w2, m1, v1, spans, {}, at::zeros({n - 1}, at::kBFloat16)), ContractError);
}

TEST(Bf16Test, ParametersWithoutCopyAreRefused) {
  const Parameter weight = make_parameter(random_normal({4, 3}, 2));
  EXPECT_THROW((void)linear(rounded({5, 3}, 1), weight), ContractError);
  EXPECT_THROW((void)head_cross_entropy(rounded({5, 3}, 1), weight, at::zeros({1}, at::kLong),
                                        at::zeros({1}, at::kLong), at::ones({1})),
               ContractError);
}

}  // namespace
}  // namespace gato::kernels
