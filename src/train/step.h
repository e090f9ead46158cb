#pragma once
#include <functional>
#include <memory>
#include <string>

#include "captured_step.h"
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
  /// Throws ConfigError where train.cuda_graph is on and cannot be had.
  Stepper(const TrainingConfig& config, model::Model& model, OptimizerState& optimizer);

  /// Advances `state` by one step, whether or not it is refused, and tells `meter` of every label. `meanwhile` is
  /// called when forward and backward are on their way to the device and before they are waited for.
  StepResult run(const StepInput& input, TrainingState& state, LabelMeter& meter,
                 const std::function<void()>& meanwhile = {});

 private:
  /// What is read of a micro-batch once the whole step is on its way.
  struct Measured {
    MicroResult result;
    const std::vector<int32_t>* sources;
  };
  [[nodiscard]] static double read(const std::vector<Measured>& measured, LabelMeter& meter);
  void update(double norm, double weight_sum, TrainingState& state);

  const TrainingConfig& config_;
  model::Model& model_;
  OptimizerState& optimizer_;
  std::unique_ptr<CapturedStep> captured_;  // with train.cuda_graph
};

}  // namespace gato::train
