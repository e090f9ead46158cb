#pragma once
#include <string>

#include "checkpointing.h"
#include "meters.h"
#include "step_input.h"

namespace gato::train {

/// What one step did.
struct StepResult {
  double loss = 0;           ///< Per summed loss weight, what the gradient is of; NaN without a label.
  double gradient_norm = 0;  ///< Of that loss, before clipping.
  std::string refused;       ///< Why the parameters stayed as they were; empty when they did not.
};

/// Forward, backward and update on one batch: everything between a batch and the next parameters. Deterministic: the
/// same parameters, batch and state give the same bits with the same number of threads.
class Stepper {
 public:
  Stepper(const TrainingConfig& config, model::Model& model, OptimizerState& optimizer)
      : config_(config), model_(model), optimizer_(optimizer) {}

  /// Advances `state` by one step, whether or not it is refused, and tells `meter` of every label.
  StepResult run(const StepInput& input, TrainingState& state, LabelMeter& meter);

 private:
  /// What a micro-batch leaves for the meters, on the model's device.
  struct Measured {
    at::Tensor loss, nll, gradient_squares;
    const std::vector<int32_t>* sources;
  };
  [[nodiscard]] static at::Tensor squared_lengths(const at::Tensor& gradient, const at::Tensor& positions);
  [[nodiscard]] static double read(const std::vector<Measured>& measured, LabelMeter& meter);
  void update(double norm, double weight_sum, TrainingState& state);

  const TrainingConfig& config_;
  model::Model& model_;
  OptimizerState& optimizer_;
};

}  // namespace gato::train
