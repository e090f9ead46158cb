#pragma once
#include <gtest/gtest.h>

#include <memory>
#include <vector>

#include "support/synthetic_data.h"
#include "train/session.h"

namespace gato::train::testing {

/// A model small enough to step under emulation, of a shape that our attention takes, with rows that skip branches.
inline TrainingConfig graph_config(model::Precision precision) {
  TrainingConfig config;
  config.model.layers = 2;
  config.model.width = 48;
  config.model.heads = 2;
  config.model.head_dim = 32;
  config.model.hidden = 40;
  config.model.patch_channels = 8;
  config.model.stochastic_depth = 0.3;
  config.model.precision = precision;
  config.train.cuda_graph = true;
  config.train.soft_target_bins = 2;
  config.train.batch_rows = 4;
  config.train.micro_batch_rows = {2};
  config.data = data::test::shared_data().config(48);
  return config;
}

/// Losses, gradient norms and the meter's means of some steps of a run.
inline std::vector<double> step_numbers(const TrainingConfig& config, const std::shared_ptr<const data::RowPlan>& plan,
                                        at::Device device, int64_t steps = 3) {
  model::Model model(config.model, model_shape(data::test::shared_data().vocabulary()), 3,
                     model::Model::Purpose::kTraining, device);
  OptimizerState optimizer{at::zeros_like(model.store().values()), at::zeros_like(model.store().values())};
  Stepper stepper(config, model, optimizer);
  const InputPreparer inputs(device, config);
  const data::RowBuilder builder(plan, true);
  LabelMeter meter(*plan);
  TrainingState state;
  std::vector<double> numbers;
  while (state.step < steps) {
    StepInput input = inputs.prepare(builder.build(state.next_row, config.train.batch_rows));
    inputs.wait_for(input);
    for (StepInput::MicroBatch& micro : input.micro) {
      for_each_tensor(micro.tensors, [](at::Tensor& x) {
        if (x.defined()) x = x.clone();  // into the device's memory, where that is emulated
      });
    }
    const StepResult result = stepper.run(input, state, meter);
    EXPECT_EQ(result.refused, "");
    numbers.insert(numbers.end(), {result.loss, result.gradient_norm, meter.mean()});
    for (const auto& [task, share] : meter.task_gradient_shares()) numbers.push_back(share);
  }
  return numbers;
}

/// Whether numbers agree to a share of themselves.
inline void expect_near(const std::vector<double>& actual, const std::vector<double>& expected, double tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(actual[i], expected[i], tolerance * std::abs(expected[i])) << i;
  }
}

}  // namespace gato::train::testing
