#include "gato/kernels/optimizer.h"

#include <ATen/ATen.h>
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

/// Parameters in training by adamw_update.
struct Trainee {
  at::Tensor values = random_normal({5000}, 1), first = at::zeros({5000}), second = at::zeros({5000});
  const std::vector<UpdateSpan> spans{{0, 3000, true}, {3000, 1990, false}};
  StepNumbers numbers{at::kCPU};

  UpdateOutcome step(const at::Tensor& gradients, double weight_sum, double loss, double clip_norm, int64_t updates) {
    numbers.begin(weight_sum, 1e-2, updates);
    numbers.add_loss(at::scalar_tensor(loss));
    squared_norm(gradients, numbers.squared_norm());
    adamw_update(values, gradients, first, second, spans, {.weight_decay = 0.1, .clip_norm = clip_norm}, numbers);
    return numbers.read();
  }
};

TEST(AdamWUpdateTest, IsTheStepThatTheHostWouldDecideOn) {
  Trainee decided, told;
  for (int64_t step = 1; step <= 3; ++step) {
    const at::Tensor gradients = random_normal({5000}, static_cast<uint64_t>(100 + step));
    const double weight = 7.5, norm = std::sqrt(squared_norm(gradients)) / weight, clip_norm = step == 2 ? 0.5 : 100;
    const UpdateOutcome outcome = decided.step(gradients, weight, 30, clip_norm, step - 1);
    adamw_step(told.values, gradients, told.first, told.second, told.spans,
               {.learning_rate = 1e-2,
                .weight_decay = 0.1,
                .step = step,
                .grad_scale = (norm > clip_norm ? clip_norm / norm : 1) / weight});
    EXPECT_EQ(outcome.loss, 4);
    EXPECT_EQ(outcome.gradient_norm, norm);
    EXPECT_EQ(outcome.weight_sum, weight);
    EXPECT_FALSE(outcome.refused);
  }
  EXPECT_TRUE(same_bits(decided.values, told.values));
  EXPECT_TRUE(same_bits(decided.first, told.first));
  EXPECT_TRUE(same_bits(decided.second, told.second));
}

TEST(AdamWUpdateTest, LossesAndSumsOfOtherProcessesAddUp) {
  StepNumbers numbers(at::kCPU);
  numbers.begin(2, 1e-3, 0);
  numbers.add_loss(at::scalar_tensor(1.5f));
  numbers.add_loss(at::scalar_tensor(2.5f));
  EXPECT_TRUE(same_bits(numbers.sums(), at::tensor({0.0, 4.0, 2.0}, at::kDouble)));
  numbers.sums().add_(at::tensor({36.0, 4.0, 2.0}, at::kDouble));  // of another process
  at::Tensor x = at::zeros({16});
  adamw_update(x, x, x, x, {}, {}, numbers);
  EXPECT_EQ(numbers.read().loss, 2);
  EXPECT_EQ(numbers.read().gradient_norm, 1.5);
  EXPECT_EQ(numbers.read().weight_sum, 4);
  numbers.begin(3, 1e-3, 1);
  EXPECT_TRUE(same_bits(numbers.sums(), at::tensor({0.0, 0.0, 3.0}, at::kDouble))) << "sums of the step before stayed";
}

TEST(AdamWUpdateTest, RefusedLeavesEveryBit) {
  Trainee trainee;
  const at::Tensor good = random_normal({5000}, 2);
  ASSERT_FALSE(trainee.step(good, 1, 1, 1, 0).refused);
  const std::vector<at::Tensor> before{trainee.values.clone(), trainee.first.clone(), trainee.second.clone()};
  at::Tensor bad = good.clone();
  bad[4999] = NAN;
  EXPECT_TRUE(trainee.step(bad, 1, 1, 1, 1).refused);
  EXPECT_TRUE(trainee.step(good, 1, INFINITY, 1, 1).refused);
  EXPECT_TRUE(trainee.step(good, 0, 0, 1, 1).refused);
  EXPECT_EQ(trainee.numbers.read().weight_sum, 0);
  EXPECT_TRUE(same_bits(before[0], trainee.values));
  EXPECT_TRUE(same_bits(before[1], trainee.first));
  EXPECT_TRUE(same_bits(before[2], trainee.second));
}

TEST(AdamWUpdateTest, RefusesWrongArguments) {
  const StepNumbers numbers(at::kCPU);
  at::Tensor x = at::zeros({8});
  EXPECT_THROW(adamw_update(x, at::zeros({7}), x, x, {}, {}, numbers), ContractError);
  EXPECT_THROW(adamw_update(x, x, x, x, {}, {.beta_1 = 1}, numbers), ContractError);
  EXPECT_THROW(adamw_update(x, x, x, x, std::vector<UpdateSpan>{{0, 9, true}}, {}, numbers), ContractError);
  EXPECT_THROW(StepNumbers(at::kCPU).begin(1, 1, -1), ContractError);
  EXPECT_THROW(squared_norm(x, at::zeros({1})), ContractError);
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
