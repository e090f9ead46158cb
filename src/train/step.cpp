#include "step.h"

#include <ATen/ATen.h>

#include <limits>

#include "gato/core/profile.h"
#include "gato/core/text.h"
#include "gato/train/batch_tensors.h"

namespace gato::train {

Stepper::Stepper(const TrainingConfig& config, model::Model& model, OptimizerState& optimizer)
    : config_(config), model_(model), updater_(config, model, optimizer) {
  if (config.train.cuda_graph) captured_ = std::make_unique<CapturedStep>(config, model);
}

StepResult Stepper::run(const StepInput& input, TrainingState& state, LabelMeter& meter,
                        const std::function<void()>& meanwhile) {
  const std::vector<Measured> measured = compute_gradients(input, state.step);
  if (meanwhile) meanwhile();  // before the update: what is thrown here leaves parameters and state as they were
  state.step += 1;
  state.next_row += config_.train.batch_rows;
  state.tokens += input.batch.tokens;
  StepResult done = update(measured, state);
  tell(measured, meter);
  return done;
}

std::vector<Stepper::Measured> Stepper::compute_gradients(const StepInput& input, int64_t step) {
  model_.store().zero_gradients();
  std::vector<Measured> measured;
  for (const auto& [first_row, tensors] : input.micro) {
    if (tensors.loss_sources.empty()) continue;
    model::ForwardOptions options;
    options.training = true;
    options.seed = static_cast<uint64_t>(config_.train.seed);
    options.step = step;
    options.first_row = first_row;
    options.recompute = config_.train.recompute;
    const MicroResult result = captured_ ? captured_->run(tensors, options)
                                         : micro_step(model_, tensors, options, config_.train.soft_target_bins);
    measured.push_back({result, &tensors});
  }
  return measured;
}

/// Puts the update on its way, then waits for it.
StepResult Stepper::update(const std::vector<Measured>& measured, TrainingState& state) {
  double weight_sum = 0;
  std::vector<at::Tensor> losses;
  for (const auto& [result, tensors] : measured) {
    weight_sum += tensors->weight_sum;
    losses.push_back(result.loss);
  }
  updater_.begin(weight_sum, losses, state);
  updater_.measure();
  updater_.update();
  const kernels::UpdateOutcome outcome = updater_.read();
  if (outcome.weight_sum == 0) return {std::numeric_limits<double>::quiet_NaN(), 0, ""};
  StepResult done{outcome.loss, outcome.gradient_norm, ""};
  if (outcome.refused) {
    done.refused = cat("loss ", done.loss, ", gradient norm ", done.gradient_norm);
  } else {
    state.updates += 1;
  }
  return done;
}

void Stepper::tell(const std::vector<Measured>& measured, LabelMeter& meter) {
  const profile::Scope scope("meters");
  for (const auto& [result, tensors] : measured) {
    meter.add(result.nll.cpu(), tensors->loss_sources);
    meter.add_gradients(result.gradient_squares.cpu(), tensors->loss_sources);
  }
}

}  // namespace gato::train
