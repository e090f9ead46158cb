#include "step.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "gato/core/profile.h"
#include "gato/core/text.h"
#include "gato/kernels/optimizer.h"
#include "gato/train/batch_tensors.h"

namespace gato::train {

Stepper::Stepper(const TrainingConfig& config, model::Model& model, OptimizerState& optimizer)
    : config_(config), model_(model), optimizer_(optimizer) {
  if (config.train.cuda_graph) captured_ = std::make_unique<CapturedStep>(config, model);
}

StepResult Stepper::run(const StepInput& input, TrainingState& state, LabelMeter& meter,
                        const std::function<void()>& meanwhile) {
  const data::Batch& batch = input.batch;
  model_.store().zero_gradients();
  double weight_sum = 0;
  std::vector<Measured> measured;
  for (const auto& [first_row, tensors] : input.micro) {
    if (tensors.loss_sources.empty()) continue;
    model::ForwardOptions options;
    options.training = true;
    options.seed = static_cast<uint64_t>(config_.train.seed);
    options.step = state.step;
    options.first_row = first_row;
    options.recompute = config_.train.recompute;
    const MicroResult result = captured_ ? captured_->run(tensors, options)
                                         : micro_step(model_, tensors, options, config_.train.soft_target_bins);
    weight_sum += tensors.weight_sum;
    measured.push_back({result, &tensors.loss_sources});
  }
  if (meanwhile) meanwhile();
  state.step += 1;
  state.next_row += config_.train.batch_rows;
  state.tokens += batch.tokens;
  StepResult done;
  if (weight_sum == 0) {
    done.loss = std::numeric_limits<double>::quiet_NaN();
    return done;
  }
  done.gradient_norm = std::sqrt(kernels::squared_norm(model_.store().gradients())) / weight_sum;
  done.loss = read(measured, meter) / weight_sum;
  if (std::isfinite(done.loss) && std::isfinite(done.gradient_norm)) {
    update(done.gradient_norm, weight_sum, state);
  } else {
    done.refused = cat("loss ", done.loss, ", gradient norm ", done.gradient_norm);
  }
  return done;
}

/// Tells the meter; returns the summed loss. After all work of the step is on its way, since a GPU is waited for here.
double Stepper::read(const std::vector<Measured>& measured, LabelMeter& meter) {
  const profile::Scope scope("meters");
  double summed_loss = 0;
  for (const auto& [result, sources] : measured) {
    summed_loss += result.loss.item<double>();
    meter.add(result.nll.cpu(), *sources);
    meter.add_gradients(result.gradient_squares.cpu(), *sources);
  }
  return summed_loss;
}

void Stepper::update(double norm, double weight_sum, TrainingState& state) {
  std::vector<kernels::UpdateSpan> spans;
  for (const model::Segment& segment : model_.store().segments()) {
    if (segment.trainable) spans.push_back({segment.offset, segment.size, segment.decay});
  }
  const OptimizerConfig& optimizer = config_.optimizer;
  kernels::AdamWStep update;
  update.learning_rate = learning_rate(optimizer, state.step, config_.train.steps);
  update.beta_1 = optimizer.beta_1;
  update.beta_2 = optimizer.beta_2;
  update.epsilon = optimizer.epsilon;
  update.weight_decay = optimizer.weight_decay;
  update.step = ++state.updates;
  const bool clip = optimizer.clip_norm > 0 && norm > optimizer.clip_norm;
  update.grad_scale = (clip ? optimizer.clip_norm / norm : 1) / weight_sum;
  model_.store().update(optimizer_.first_moment, optimizer_.second_moment, spans, update);
}

}  // namespace gato::train
