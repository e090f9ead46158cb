// A training step in CUDA graphs beside the same step without, on emulated kernels. A replay calls the captured work
// again, so that what reads or writes the wrong memory shows.
#include "train/captured_step.h"

#include <gtest/gtest.h>

#include "cuda/model/emulated_ops.h"
#include "gato/core/error.h"
#include "gato/kernels/attention_route.h"
#include "model/small_model.h"
#include "train/step_numbers.h"

namespace gato::train {
namespace {

using namespace model::testing;
using kernels::testing::EmulatedGpu;
using testing::graph_config;

/// A micro-batch whose tokens, patches, sequences and loss positions depend on `seed`; every `keep`th place that may
/// carry loss does.
BatchTensors random_micro_batch(int64_t rows, int64_t tokens, uint64_t seed, int64_t keep) {
  const SmallBatch batch = small_batch(rows, tokens, seed, 30);
  BatchTensors tensors;
  tensors.input = batch.input;
  tensors.input.bounds = kernels::sequence_bounds(batch.input.sequence_starts);
  std::vector<int64_t> positions;
  for (int64_t place = 0; place < rows * tokens - 1; place += keep) positions.push_back(place);
  const auto count = static_cast<int64_t>(positions.size());
  tensors.loss = {at::tensor(positions, at::kLong),
                  random_integers({count}, 0, small_shape().vocabulary_size, seed + 1),
                  random_normal({count}, seed + 2).abs()};
  tensors.loss_sources.assign(positions.size(), 0);
  tensors.weight_sum = tensors.loss.weights.sum().item<double>();
  return tensors;
}

/// The places of `padded` that were there before.
at::Tensor real_places(const BatchTensors& padded) {
  std::vector<int64_t> places;
  for (size_t i = 0; i < padded.loss_sources.size(); ++i) {
    if (padded.loss_sources[i] >= 0) places.push_back(static_cast<int64_t>(i));
  }
  return at::tensor(places, at::kLong);
}

/// A model in training: micro-batches, and an update after each.
struct Trainee {
  explicit Trainee(const TrainingConfig& config)
      : model(config.model, small_shape(), 3),
        first(at::zeros_like(model.store().values())),
        second(at::zeros_like(model.store().values())) {
    for (const model::Segment& s : model.store().segments()) spans.push_back({s.offset, s.size, s.decay});
  }
  void update(int64_t step, double weight_sum) {
    model.store().update(first, second, spans, {.learning_rate = 3e-3, .step = step, .grad_scale = 1 / weight_sum});
  }

  model::Model model;
  at::Tensor first, second;
  std::vector<kernels::UpdateSpan> spans;
};

model::ForwardOptions options_of(int64_t step, bool recompute = false) {
  model::ForwardOptions options;
  options.training = true;
  options.seed = 7;
  options.step = step;
  options.first_row = 10 * step;
  options.recompute = recompute;
  return options;
}

/// |a - b| / |b|.
double distance(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.to(at::kDouble), y = b.to(at::kDouble);
  return ((x - y).norm() / y.norm()).item<double>();
}

/// Both ways through micro-batches of several sizes; `tolerance` as a share.
void expect_same_training(const TrainingConfig& config, double tolerance, bool recompute = false) {
  const EmulatedGpu gpu;
  Trainee eager(config), captured(config);
  CapturedStep graphs(config, captured.model);
  const std::vector<int64_t> keep = {3, 1, 50, 2, 1};  // loss positions: 54, 159, 4, 80, 159, of 160 places
  for (size_t i = 0; i < keep.size(); ++i) {
    const auto step = static_cast<int64_t>(i) + 1;
    const BatchTensors tensors = random_micro_batch(2, 80, 100 * (i + 1), keep[i]);
    const BatchTensors padded = pad_sizes(tensors);
    eager.model.store().zero_gradients();
    captured.model.store().zero_gradients();
    const MicroResult expected =
        micro_step(eager.model, tensors, options_of(step, recompute), config.train.soft_target_bins);
    const MicroResult actual = graphs.run(padded, options_of(step, recompute));
    const at::Tensor places = real_places(padded);
    EXPECT_LT(distance(actual.loss, expected.loss), tolerance) << "step " << step;
    EXPECT_LT(distance(actual.nll.index_select(0, places), expected.nll), tolerance) << "step " << step;
    EXPECT_LT(distance(actual.gradient_squares.index_select(0, places), expected.gradient_squares), 3 * tolerance)
        << "step " << step;
    EXPECT_LT(distance(captured.model.store().gradients(), eager.model.store().gradients()), tolerance)
        << "step " << step;
    // The next step begins with the same numbers: one that differs by rounding is another run after a while.
    eager.update(step, tensors.weight_sum);
    captured.model.store().values().copy_(eager.model.store().values());
    captured.model.store().values_changed();
  }
  EXPECT_EQ(graphs.num_graphs(), 1u);
}

TEST(CapturedStepTest, Fp32FollowsTheEagerStep) { expect_same_training(graph_config(model::Precision::kFp32), 1e-5); }

TEST(CapturedStepTest, Bf16FollowsTheEagerStepWithOwnAttention) {
  expect_same_training(graph_config(model::Precision::kBf16), 1e-2);
}

TEST(CapturedStepTest, RecomputationIsCapturedToo) {
  expect_same_training(graph_config(model::Precision::kBf16), 1e-2, true);
}

// Every replay must draw masks and skip branches of its own, or it would not follow the eager steps.
TEST(CapturedStepTest, DropoutAndStochasticDepthDrawAnewAtEveryReplay) {
  TrainingConfig config = graph_config(model::Precision::kFp32);
  config.model.dropout = 0.25;
  config.model.stochastic_depth = 0.4;
  expect_same_training(config, 1e-5, /*recompute=*/true);
  const EmulatedGpu gpu;
  Trainee trainee(config);
  CapturedStep graphs(config, trainee.model);
  const BatchTensors tensors = pad_sizes(random_micro_batch(2, 40, 5, 2));
  const auto loss_of_step = [&](int64_t step) { return graphs.run(tensors, options_of(step)).loss.item<float>(); };
  const float first = loss_of_step(1), second = loss_of_step(2);
  EXPECT_NE(first, second);
  EXPECT_EQ(first, loss_of_step(1));
  EXPECT_EQ(graphs.num_graphs(), 1u);
}

TEST(CapturedStepTest, ReplaysGiveTheBitsOfTheRecordingWhateverRanBetween) {
  const EmulatedGpu gpu;
  const TrainingConfig config = graph_config(model::Precision::kBf16);
  Trainee trainee(config);
  CapturedStep graphs(config, trainee.model);
  // 136 and 271 loss positions of 272 places: 256 and 272 of them, hence two graphs that share embedded vectors.
  const BatchTensors first = pad_sizes(random_micro_batch(2, 136, 5, 2));
  const BatchTensors other = pad_sizes(random_micro_batch(2, 136, 9, 1));
  const auto gradients_of = [&](const BatchTensors& tensors) {
    trainee.model.store().zero_gradients();
    const at::Tensor loss = graphs.run(tensors, options_of(1)).loss;
    return std::pair(loss, trainee.model.store().gradients().clone());
  };
  const auto recorded = gradients_of(first);
  const auto between = gradients_of(other);
  const auto replayed = gradients_of(first);
  EXPECT_EQ(graphs.num_graphs(), 2u);
  EXPECT_TRUE(same_bits(recorded.first, replayed.first));
  EXPECT_TRUE(same_bits(recorded.second, replayed.second));
  EXPECT_FALSE(same_bits(recorded.second, between.second));
}

TEST(CapturedStepTest, StepsAndTheirMetersAreThoseWithoutGraphs) {
  TrainingConfig config = graph_config(model::Precision::kFp32);
  const auto plan = data::test::shared_data().plan(config.data);
  const EmulatedGpu gpu;
  const std::vector<double> captured = testing::step_numbers(config, plan, at::kCPU);
  config.train.cuda_graph = false;
  testing::expect_near(captured, testing::step_numbers(config, plan, at::kCPU), 1e-4);
}

/// A run by Stepper whose labels of `broken_step` weigh NaN: its parameters, and what its steps said.
struct BrokenRun {
  std::vector<float> values;
  std::vector<bool> refused;
  int64_t updates = 0;
};
BrokenRun run_with_broken_step(const TrainingConfig& config, int64_t broken_step, int64_t steps) {
  const auto plan = data::test::shared_data().plan(config.data);
  model::Model model(config.model, model_shape(data::test::shared_data().vocabulary()), 3);
  OptimizerState optimizer{at::zeros_like(model.store().values()), at::zeros_like(model.store().values())};
  Stepper stepper(config, model, optimizer);
  const InputPreparer inputs(at::kCPU, config);
  const data::RowBuilder builder(plan, true);
  LabelMeter meter(*plan);
  TrainingState state;
  BrokenRun run;
  while (state.step < steps) {
    StepInput input = inputs.prepare(builder.build(state.next_row, config.train.batch_rows));
    for (StepInput::MicroBatch& micro : input.micro) {
      for_each_tensor(micro.tensors, [](at::Tensor& x) {
        if (x.defined()) x = x.clone();
      });
      if (state.step + 1 == broken_step) micro.tensors.loss.weights.fill_(NAN);
    }
    run.refused.push_back(!stepper.run(input, state, meter).refused.empty());
  }
  run.updates = state.updates;
  const at::Tensor values = model.store().values();
  run.values.assign(values.const_data_ptr<float>(), values.const_data_ptr<float>() + values.numel());
  return run;
}

TEST(CapturedStepTest, ARefusedStepIsPassedOverAndTheNextOneCountsOn) {
  TrainingConfig config = graph_config(model::Precision::kFp32);
  const EmulatedGpu gpu;
  for (const bool graphs : {false, true}) {
    SCOPED_TRACE(graphs ? "graphs" : "eager");
    config.train.cuda_graph = graphs;
    const BrokenRun one = run_with_broken_step(config, 0, 1), broken = run_with_broken_step(config, 2, 2);
    EXPECT_EQ(broken.refused, (std::vector<bool>{false, true}));
    EXPECT_EQ(broken.updates, 1);
    EXPECT_EQ(broken.values, one.values) << "the refused step changed parameters";
    const BrokenRun on = run_with_broken_step(config, 2, 3);
    EXPECT_EQ(on.refused, (std::vector<bool>{false, true, false}));
    EXPECT_EQ(on.updates, 2);
    EXPECT_NE(on.values, one.values);
  }
}

TEST(CapturedStepTest, OldGraphsGoAndComeBack) {
  const EmulatedGpu gpu;
  const TrainingConfig config = graph_config(model::Precision::kFp32);
  Trainee trainee(config);
  CapturedStep graphs(config, trainee.model);
  std::vector<float> losses;
  for (int round = 0; round < 2; ++round) {
    for (int64_t tokens = 6; tokens < 6 + static_cast<int64_t>(CapturedStep::kMostGraphs) + 2; ++tokens) {
      const BatchTensors tensors = pad_sizes(random_micro_batch(1, tokens, static_cast<uint64_t>(tokens), 2));
      trainee.model.store().zero_gradients();
      losses.push_back(graphs.run(tensors, options_of(1)).loss.item<float>());
    }
    EXPECT_EQ(graphs.num_graphs(), CapturedStep::kMostGraphs);
  }
  const size_t half = losses.size() / 2;
  for (size_t i = 0; i < half; ++i) EXPECT_EQ(losses[i], losses[half + i]) << i;
}

TEST(CapturedStepTest, TensorsOfOtherSizesAreRefused) {
  const EmulatedGpu gpu;
  const TrainingConfig config = graph_config(model::Precision::kFp32);
  Trainee trainee(config);
  CapturedStep graphs(config, trainee.model);
  EXPECT_THROW((void)graphs.run(random_micro_batch(1, 20, 5, 2), options_of(1)), ContractError);
}

/// The message of the ConfigError that making a captured step, and using it, throws; "" for none.
std::string refusal(const TrainingConfig& config) {
  try {
    Trainee trainee(config);
    CapturedStep graphs(config, trainee.model);
    (void)graphs.run(pad_sizes(random_micro_batch(1, 8, 5, 2)), options_of(1));
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "";
}

::testing::AssertionResult names(const std::string& message, const std::string& setting) {
  if (message.find("train.cuda_graph") == 0 && message.find(setting) != std::string::npos)
    return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "'" << message << "' does not name train.cuda_graph and " << setting;
}

TEST(CapturedStepTest, WhatCannotBeCapturedIsRefusedByName) {
  const EmulatedGpu gpu;
  const TrainingConfig good = graph_config(model::Precision::kFp32);
  EXPECT_EQ(refusal(good), "");
  TrainingConfig config = good;
  config.model.position = model::PositionEncoding::kRelative;
  EXPECT_TRUE(names(refusal(config), "model.position relative"));
  config = good;
  config.kernels.attention = kernels::AttentionRoute::kCudnn;
  EXPECT_TRUE(names(refusal(config), "kernels.attention cudnn"));
  kernels::set_attention_route(kernels::AttentionRoute::kCudnn);  // what `auto` may have come to
  EXPECT_TRUE(names(refusal(good), "attention by cudnn"));
  kernels::set_attention_route(kernels::AttentionRoute::kAuto);
}

TEST(CapturedStepTest, OnACpuItIsRefused) {
  EXPECT_TRUE(names(refusal(graph_config(model::Precision::kFp32)), "the model is on cpu"));
}

}  // namespace
}  // namespace gato::train
