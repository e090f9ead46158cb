#include "gato/kernels/optimizer.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <limits>

#include "gato/core/error.h"
#include "gato/kernels/reference.h"
#include "kernels/gradient_check.h"

namespace gato::kernels {
namespace {

using namespace testing;

TEST(AdamWTest, TenStepsMatchReference) {
  const int64_t n = 70'001;
  const std::vector<UpdateSpan> spans{{0, 541, true}, {544, 40'000, false}, {40'560, 29'000, true}};
  at::Tensor w1 = random_normal({n}, 1), m1 = at::zeros({n}), v1 = at::zeros({n});
  at::Tensor w2 = w1.to(at::kDouble), m2 = m1.to(at::kDouble), v2 = v1.to(at::kDouble);
  const at::Tensor before = w1.clone();
  for (int64_t step = 1; step <= 10; ++step) {
    const at::Tensor g = random_normal({n}, static_cast<uint64_t>(100 + step));
    const AdamWStep options{.learning_rate = 1e-2, .weight_decay = 0.1, .step = step, .grad_scale = 0.25};
    adamw_step(w1, g, m1, v1, spans, options);
    reference::adamw_step(w2, g.to(at::kDouble), m2, v2, spans, options);
  }
  EXPECT_TRUE(all_close(w1, w2, tolerance_of(at::kFloat)));
  EXPECT_TRUE(all_close(m1, m2, tolerance_of(at::kFloat)));
  EXPECT_TRUE(all_close(v1, v2, tolerance_of(at::kFloat)));
  for (const auto& [begin, end] : std::vector<std::pair<int64_t, int64_t>>{{541, 544}, {40'544, 40'560}, {69'560, n}}) {
    EXPECT_TRUE(same_bits(w1.slice(0, begin, end), before.slice(0, begin, end))) << "gap at " << begin;
  }
}

TEST(AdamWTest, SameBitsForAnyNumberOfThreads) {
  const int threads = at::get_num_threads();
  std::vector<at::Tensor> results;
  for (const int n : {1, 2}) {
    at::set_num_threads(n);
    at::Tensor w = random_normal({100'003}, 1), m = at::zeros({100'003}), v = at::zeros({100'003});
    const std::vector<UpdateSpan> spans{{0, 100'003, true}};
    adamw_step(w, random_normal({100'003}, 2), m, v, spans, {.learning_rate = 1e-2});
    results.push_back(w);
  }
  at::set_num_threads(threads);
  EXPECT_TRUE(same_bits(results[0], results[1]));
}

TEST(AdamWTest, RefusesWrongArguments) {
  at::Tensor x = at::zeros({8});
  const auto call = [&](UpdateSpan span, int64_t step) {
    adamw_step(x, x, x, x, std::vector<UpdateSpan>{span}, {.step = step});
  };
  EXPECT_THROW(call({0, 9, true}, 1), ContractError);
  EXPECT_THROW(call({-1, 4, true}, 1), ContractError);
  EXPECT_THROW(call({0, 8, true}, 0), ContractError);
  EXPECT_THROW(adamw_step(x, at::zeros({7}), x, x, {}, {}), ContractError);
}

TEST(SquaredNormTest, MatchesDoublePrecisionForAwkwardSizes) {
  for (const int64_t n : {0, 1, 31, 33, 541, 70'001, 300'000}) {
    const at::Tensor x = random_normal({n}, 1);
    EXPECT_NEAR(squared_norm(x), inner_product(x, x), 1e-9 * (1 + static_cast<double>(n)));
  }
}

TEST(SquaredNormTest, SameBitsForAnyNumberOfThreads) {
  const at::Tensor x = random_normal({1'000'003}, 1);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const double one = squared_norm(x);
  at::set_num_threads(2);
  const double two = squared_norm(x);
  at::set_num_threads(threads);
  EXPECT_EQ(one, two);
}

TEST(SquaredNormTest, ShowsNonFiniteElements) {
  for (const float bad : {INFINITY, -INFINITY, NAN}) {
    at::Tensor x = random_normal({70'000}, 1);
    x[69'999] = bad;
    EXPECT_FALSE(std::isfinite(squared_norm(x)));
  }
  EXPECT_TRUE(std::isfinite(squared_norm(at::full({1000}, std::numeric_limits<float>::max()))));
}

}  // namespace
}  // namespace gato::kernels
