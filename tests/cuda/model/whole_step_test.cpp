// The whole model on the CUDA half's operations, kernels run by the emulator, beside the same model on the CPU's.
#include <gtest/gtest.h>

#include "cuda/model/emulated_ops.h"
#include "gato/kernels/attention_route.h"
#include "gato/kernels/optimizer.h"
#include "model/gpu_config.h"

namespace gato::model {
namespace {

using namespace testing;
using kernels::testing::EmulatedGpu;

/// What some steps leave, in ordinary memory.
struct Trained {
  std::vector<double> losses, norms;
  std::vector<float> values, gradients;  // gradients: of the first step
};

std::vector<float> to_vector(const at::Tensor& x) {
  const auto* data = x.const_data_ptr<float>();
  return {data, data + x.numel()};
}

Trained train(const ModelConfig& config, int64_t steps, const ForwardOptions& options = {}, double soft_sigma = 0) {
  Model model(config, small_shape(), 3);
  const at::Tensor first = at::zeros_like(model.store().values()), second = at::zeros_like(first);
  std::vector<kernels::UpdateSpan> spans;
  for (const Segment& s : model.store().segments()) spans.push_back({s.offset, s.size, s.decay});
  const SmallBatch batch = small_batch(2, 70, 9, 40);
  const double weight = batch.where.weights.sum().item<double>();
  Trained result;
  for (int64_t step = 1; step <= steps; ++step) {
    model.store().zero_gradients();
    ForwardOptions of_step = options;
    of_step.step = step;
    const LossResult loss = model.loss(batch.input, batch.where, of_step, soft_sigma);
    model.backward(loss.loss);
    result.losses.push_back(loss.loss.item<double>() / weight);
    result.norms.push_back(std::sqrt(kernels::squared_norm(model.store().gradients())) / weight);
    if (step == 1) result.gradients = to_vector(model.store().gradients());
    model.store().update(first, second, spans, {.learning_rate = 3e-3, .step = step, .grad_scale = 1 / weight});
  }
  result.values = to_vector(model.store().values());
  return result;
}

/// |a - b| / |b|.
double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, norm = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    difference += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
    norm += std::pow(static_cast<double>(b[i]), 2);
  }
  return std::sqrt(difference / norm);
}

/// On the CPU, then on the emulated GPU; tolerances as shares.
void expect_same_training(const ModelConfig& config, double loss_tolerance, double gradient_tolerance,
                          const ForwardOptions& options = {}, double soft_sigma = 0) {
  constexpr int64_t kSteps = 3;
  const Trained expected = train(config, kSteps, options, soft_sigma);
  const EmulatedGpu gpu;
  const Trained actual = train(config, kSteps, options, soft_sigma);
  for (size_t step = 0; step < kSteps; ++step) {
    EXPECT_NEAR(actual.losses[step], expected.losses[step], loss_tolerance * expected.losses[step]) << "step " << step;
    EXPECT_NEAR(actual.norms[step], expected.norms[step], 3 * gradient_tolerance * expected.norms[step])
        << "step " << step;
  }
  EXPECT_LT(expected.losses.back(), expected.losses.front()) << "nothing was learned";
  EXPECT_LT(distance(actual.gradients, expected.gradients), gradient_tolerance);
}

TEST(EmulatedStepTest, Fp32FollowsTheCpu) { expect_same_training(gpu_config(Precision::kFp32), 1e-5, 1e-4); }

TEST(EmulatedStepTest, Bf16FollowsTheCpuWithOwnAttention) {
  expect_same_training(gpu_config(Precision::kBf16), 2e-3, 2e-2);
}

TEST(EmulatedStepTest, StochasticDepthDropoutAndSoftTargetsAreTheSame) {
  ModelConfig config = gpu_config(Precision::kFp32);
  config.stochastic_depth = 0.3;
  config.dropout = 0.2;
  ForwardOptions options;
  options.training = true;
  options.seed = 7;
  options.first_row = 1000;
  expect_same_training(config, 1e-5, 1e-4, options, 3.0);
}

TEST(EmulatedStepTest, RelativeAndNoPositionsAndAnUntiedHead) {
  ModelConfig config = gpu_config(Precision::kFp32);
  config.position = PositionEncoding::kNone;
  config.tied = false;
  expect_same_training(config, 1e-5, 1e-4);
  config.position = PositionEncoding::kRelative;
  expect_same_training(config, 1e-5, 1e-4);
}

TEST(EmulatedStepTest, RecomputationIsTheSame) {
  ForwardOptions options;
  options.recompute = true;
  expect_same_training(gpu_config(Precision::kBf16), 2e-3, 2e-2, options);
}

TEST(EmulatedStepTest, GivesTheSameBitsAgain) {
  const EmulatedGpu gpu;
  const Trained a = train(gpu_config(Precision::kBf16), 2), b = train(gpu_config(Precision::kBf16), 2);
  EXPECT_EQ(a.losses, b.losses);
  EXPECT_EQ(a.values, b.values);
}

TEST(EmulatedHeadTest, ChunksGiveTheSameAsOnePiece) {
  const EmulatedGpu gpu;
  const int64_t positions = 20, width = 16, vocabulary = 90;
  const at::Tensor table = random_normal({vocabulary, width}, 1), where = at::arange(positions);
  const at::Tensor targets = random_integers({positions}, 0, vocabulary, 2),
                   weights = random_normal({positions}, 3).abs();
  const auto run = [&](int64_t max_logits) {
    const at::Tensor hidden = random_normal({30, width}, 4).requires_grad_(true);
    const kernels::Parameter head{table, at::zeros_like(table)};
    const LossResult result =
        kernels::head_cross_entropy(hidden, head, where, targets, weights, {40, 32, 2.0}, max_logits);
    (result.loss * 2.0).backward();
    return std::vector<at::Tensor>{result.loss.detach(), result.nll, hidden.grad(), head.gradient};
  };
  const auto whole = run(int64_t{1} << 24), pieces = run(vocabulary * 7);
  for (size_t i = 0; i < whole.size(); ++i) {
    EXPECT_TRUE(all_close(pieces[i], whole[i], tolerance_of(at::kFloat).times(5))) << i;
  }
}

TEST(EmulatedRouteTest, OwnKernelsAgreeWithTheReferenceAndAreTakenOnceProven) {
  const EmulatedGpu gpu;
  const at::Tensor qkv = random_normal({2, 66, 3, 2, 32}, 5).to(at::kBFloat16);
  const at::Tensor starts = gato::testing::random_sequence_starts(2, 66, 30, 6);
  auto trials = kernels::try_attention_routes(qkv, {starts}, kernels::make_rotary_table(66, 32, 10000));
  ASSERT_EQ(trials.size(), 2u);
  for (const kernels::AttentionTrial& trial : trials) {
    EXPECT_EQ(trial.problem, "") << kernels::route_name(trial.route);
    EXPECT_LT(trial.difference, 2e-2) << kernels::route_name(trial.route);
  }
  const auto without_own =
      kernels::try_attention_routes(qkv, {starts}, kernels::make_rotary_table(66, 32, 10000), false);
  EXPECT_NE(without_own.at(0).problem.find("not tried"), std::string::npos);
  trials[0].milliseconds = 1;
  trials[1].milliseconds = 2;
  EXPECT_EQ(kernels::choose_attention_route(trials, true), kernels::AttentionRoute::kOwn);
  EXPECT_EQ(kernels::choose_attention_route(trials, false), kernels::AttentionRoute::kReference);
}

}  // namespace
}  // namespace gato::model
