#include "step.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "gato/core/profile.h"
#include "gato/core/text.h"
#include "gato/train/batch_tensors.h"

namespace gato::train {

Stepper::Stepper(const TrainingConfig& config, SharedParameters& shared, model::Model& model, OptimizerState& optimizer)
    : config_(config), shared_(shared), model_(model), updater_(config, shared, model, optimizer) {
  if (config.train.cuda_graph) captured_ = std::make_unique<CapturedStep>(config, model);
}

Stepper::Stepper(const TrainingConfig& config, std::unique_ptr<SharedParameters> alone, model::Model& model,
                 OptimizerState& optimizer)
    : Stepper(config, *alone, model, optimizer) {
  alone_ = std::move(alone);
}

Stepper::Stepper(const TrainingConfig& config, model::Model& model, OptimizerState& optimizer)
    : Stepper(config, std::make_unique<SharedParameters>(std::make_shared<Communicator>(), model.store(), false), model,
              optimizer) {}

StepResult Stepper::run(const StepInput& input, TrainingState& state, LabelMeter& meter,
                        const std::function<void()>& meanwhile) {
  const std::vector<Measured> measured = compute_gradients(input, state.step);
  if (meanwhile) meanwhile();  // before the update: what is thrown here leaves parameters and state as they were
  state.step += 1;
  state.next_row += config_.train.batch_rows;
  state.tokens += input.tokens;
  StepResult done = update(measured, state);
  tell(measured, meter);
  return done;
}

std::vector<Stepper::Measured> Stepper::compute_gradients(const StepInput& input, int64_t step) {
  model_.store().zero_gradients();
  std::vector<Measured> measured;
  const auto has_labels = [](const StepInput::MicroBatch& micro) { return !micro.tensors.loss_sources.empty(); };
  const auto last = std::find_if(input.micro.rbegin(), input.micro.rend(), has_labels);
  if (captured_) shared_.finish_values();
  for (const StepInput::MicroBatch& micro : input.micro) {
    const auto& [first_row, tensors] = micro;
    if (!has_labels(micro)) continue;
    if (!captured_ && &micro == &*last) shared_.last_backward();
    model::ForwardOptions options;
    options.training = true;
    options.seed = static_cast<uint64_t>(config_.train.seed);
    options.step = step;
    options.first_row = first_row;
    options.recompute = config_.train.recompute;
    if (!shared_.communicator().alone()) options.listener = &shared_;
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
  add_up();
  updater_.update();
  shared_.share_values();
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

/// Gradients and sums become those of all processes.
void Stepper::add_up() {
  Communicator& communicator = shared_.communicator();
  constexpr const char* kName = "loss and gradient norm";
  if (shared_.sharded()) {
    shared_.finish_gradients();
    updater_.measure();
    communicator.all_reduce(updater_.sums(), kName).wait();
    return;
  }
  // Every process has all gradients and so their norm. The other sums go along.
  shared_.start_gradients();
  Communicator::Work rest = communicator.all_reduce(updater_.sums().slice(0, 1, 3), kName);
  shared_.finish_gradients();
  updater_.measure();
  rest.wait();
}

void Stepper::tell(const std::vector<Measured>& measured, LabelMeter& meter) {
  const profile::Scope scope("meters");
  for (const auto& [result, tensors] : measured) {
    meter.add(result.nll.cpu(), tensors->loss_sources);
    meter.add_gradients(result.gradient_squares.cpu(), tensors->loss_sources);
  }
}

}  // namespace gato::train
