#pragma once
#include <functional>
#include <memory>
#include <string>

#include "captured_step.h"
#include "checkpointing.h"
#include "meters.h"
#include "shared_parameters.h"
#include "step_input.h"
#include "step_signals.h"
#include "updater.h"

/// Between backward and the next parameters nothing goes by the host: the step's numbers
/// (squared norm of the gradients, summed loss, sum of the weights) are three doubles in the memory of the model's
/// device, Updater::sums(), from which Updater::update() decides there. Several processes share a step at two places:
/// SharedParameters adds up the gradients while the last micro-batch's backward is at work, and the sums are added up
/// between measure() and update(), with what the processes have to agree on (StepSignals). So all processes decide
/// alike, to the bit, and StepResult is that of the whole step; a process without a label of its own takes part with a
/// weight of 0.
namespace gato::train {

/// What one step did.
struct StepResult {
  double loss = 0;           ///< Per summed loss weight, what the gradient is of; NaN without a label.
  double gradient_norm = 0;  ///< Of that loss, before clipping.
  std::string refused;       ///< Why the parameters stayed as they were; empty when they did not.
  StepSignals agreed;        ///< Of all processes; `tokens` are those of the step.
};

/// Forward, backward and update on one batch: everything between a batch and the next parameters. Deterministic: the
/// same parameters, batch and state give the same bits with the same number of threads.
class Stepper {
 public:
  /// The arguments must outlive it. `optimizer` is shared's make_optimizer(). Throws ConfigError where train.cuda_graph
  /// is on and cannot be had.
  Stepper(const TrainingConfig& config, SharedParameters& shared, model::Model& model, OptimizerState& optimizer);
  /// For one process.
  Stepper(const TrainingConfig& config, model::Model& model, OptimizerState& optimizer);

  /// Advances `state` by one step, whether or not it is refused, and tells `meter` of every label of this process.
  /// `meanwhile` is called when forward and backward are on their way to the device and before they are waited for; it
  /// gives what this process has to say to the others. With several processes the others' new values may still be on
  /// their way: SharedParameters::finish_values(). Throws PeerError.
  StepResult run(const StepInput& input, TrainingState& state, LabelMeter& meter,
                 const std::function<StepSignals()>& meanwhile = {});

 private:
  /// What is read of a micro-batch once the whole step is on its way.
  struct Measured {
    MicroResult result;
    const BatchTensors* tensors;
  };
  [[nodiscard]] std::vector<Measured> compute_gradients(const StepInput& input, int64_t step);
  void add_up(const StepSignals& own);
  [[nodiscard]] StepResult update(const std::vector<Measured>& measured, const StepSignals& own, TrainingState& state);
  static void tell(const std::vector<Measured>& measured, LabelMeter& meter);

  Stepper(const TrainingConfig& config, std::unique_ptr<SharedParameters> alone, model::Model& model,
          OptimizerState& optimizer);

  const TrainingConfig& config_;
  std::unique_ptr<SharedParameters> alone_;  // of one process
  SharedParameters& shared_;
  model::Model& model_;
  Updater updater_;
  at::Tensor exchanged_;  // double [3 + kNumSignals]: the sums as exchanged, and signals; of several processes
  Communicator::Work exchange_;
  std::unique_ptr<CapturedStep> captured_;  // with train.cuda_graph
};

}  // namespace gato::train
