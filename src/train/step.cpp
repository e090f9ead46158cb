#include "step.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

#include "gato/core/profile.h"
#include "gato/core/text.h"
#include "gato/train/batch_tensors.h"

namespace gato::train {
namespace {

constexpr int64_t kNumSums = 3;  // StepNumbers::sums

}  // namespace

Stepper::Stepper(const TrainingConfig& config, SharedParameters& shared, model::Model& model, OptimizerState& optimizer)
    : config_(config), shared_(shared), model_(model), updater_(config, shared, model, optimizer) {
  if (!shared.communicator().alone()) {
    exchanged_ = at::zeros({kNumSums + kNumSignals}, updater_.sums().options());
  }
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
                        const std::function<StepSignals()>& meanwhile) {
  const std::vector<Measured> measured = compute_gradients(input, state.step);
  // Before the update: what is thrown here leaves parameters and state as they were.
  StepSignals own = meanwhile ? meanwhile() : StepSignals();
  own.tokens = input.batch.tokens;
  state.step += 1;
  state.next_row += config_.train.batch_rows;
  StepResult done = update(measured, own, state);
  state.tokens += done.agreed.tokens;
  tell(measured, meter);
  return done;
}

std::vector<Stepper::Measured> Stepper::compute_gradients(const StepInput& input, int64_t step) {
  model_.store().zero_gradients();
  std::vector<Measured> measured;
  const auto has_labels = [](const StepInput::MicroBatch& micro) { return !micro.tensors.loss_sources.empty(); };
  const auto last = std::find_if(input.micro.rbegin(), input.micro.rend(), has_labels);
  if (captured_) shared_.before_values(0);
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
StepResult Stepper::update(const std::vector<Measured>& measured, const StepSignals& own, TrainingState& state) {
  double weight_sum = 0;
  std::vector<at::Tensor> losses;
  for (const auto& [result, tensors] : measured) {
    weight_sum += tensors->weight_sum;
    losses.push_back(result.loss);
  }
  updater_.begin(weight_sum, losses, state);
  add_up(own);
  updater_.update();
  shared_.share_values();
  shared_.settle_gradients();  // all is on its way: only now may the host wait
  exchange_.finish();
  const kernels::UpdateOutcome outcome = updater_.read();
  const StepSignals agreed = exchanged_.defined() ? from_numbers(exchanged_.slice(0, kNumSums)) : own;
  if (outcome.weight_sum == 0) return {std::numeric_limits<double>::quiet_NaN(), 0, "", agreed};
  StepResult done{outcome.loss, outcome.gradient_norm, "", agreed};
  if (outcome.refused) {
    done.refused = cat("loss ", done.loss, ", gradient norm ", done.gradient_norm);
  } else {
    state.updates += 1;
  }
  return done;
}

/// Gradients, sums and signals become those of all processes.
void Stepper::add_up(const StepSignals& own) {
  Communicator& communicator = shared_.communicator();
  if (communicator.alone()) {
    shared_.finish_gradients();
    return updater_.measure();
  }
  const at::Tensor signals = to_numbers(own);
  exchanged_.slice(0, kNumSums).copy_(exchanged_.is_cpu() ? signals : signals.pin_memory(), /*non_blocking=*/true);
  // With all gradients at hand every process computes their norm by itself: then it need not be waited for.
  const int64_t first = shared_.sharded() ? 0 : 1;
  const auto part = [&](const at::Tensor& sums) { return sums.slice(0, first, kNumSums); };
  const auto exchange = [&] {
    part(exchanged_).copy_(part(updater_.sums()));
    exchange_ = communicator.all_reduce(exchanged_.slice(0, first), "loss, gradient norm and signals");
  };
  shared_.start_gradients();
  if (!shared_.sharded()) exchange();
  shared_.finish_gradients();
  updater_.measure();
  if (shared_.sharded()) exchange();
  exchange_.wait();
  part(updater_.sums()).copy_(part(exchanged_));
}

void Stepper::tell(const std::vector<Measured>& measured, LabelMeter& meter) {
  const profile::Scope scope("meters");
  for (const auto& [result, tensors] : measured) {
    meter.add(result.nll.cpu(), tensors->loss_sources);
    meter.add_gradients(result.gradient_squares.cpu(), tensors->loss_sources);
  }
}

}  // namespace gato::train
