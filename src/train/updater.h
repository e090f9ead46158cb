#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "checkpointing.h"
#include "gato/kernels/capture.h"
#include "gato/kernels/optimizer.h"
#include "gato/model/model.h"
#include "gato/train/config.h"
#include "shared_parameters.h"

namespace gato::train {

/// From gradients to the next parameters on the model's device: norm, the decision whether the step is taken, clipping
/// and AdamW. Calls are only put on the way there; read() waits. With train.cuda_graph each of the two parts is a CUDA
/// graph from its first call on.
class Updater {
 public:
  /// Measures and updates the parts of `shared`; the optimizer's buffers hold these one after the other. The arguments
  /// must outlive it, and the optimizer's buffers stay where they are.
  Updater(const TrainingConfig& config, const SharedParameters& shared, model::Model& model, OptimizerState& optimizer);
  Updater(const Updater&) = delete;
  Updater& operator=(const Updater&) = delete;

  /// Begins an update: the weights and losses of the step's micro-batches, and the state of the run, whose `step`
  /// counts this one and whose `updates` does not yet.
  void begin(double weight_sum, const std::vector<at::Tensor>& losses, const TrainingState& state);
  /// Puts the gradients' squared norm among the sums.
  void measure();
  /// Decides on the update, from sums that are complete now, and does it unless it is refused.
  void update();
  [[nodiscard]] kernels::UpdateOutcome read() const { return numbers_.read(); }

  /// StepNumbers::sums, of the parts alone: what processes that share a step add up between measure() and update().
  [[nodiscard]] const at::Tensor& sums() const { return numbers_.sums(); }

 private:
  /// A stretch of the buffers that this process updates.
  struct Part {
    OwnPart place;
    std::vector<kernels::UpdateSpan> spans;  // of the trainable parameters in it, counted from its begin
  };
  void measure_parts();
  void update_parts();
  void run(std::unique_ptr<kernels::CapturedWork>& captured, const std::function<void()>& work);

  const TrainingConfig& config_;
  model::Model& model_;
  OptimizerState& optimizer_;
  std::vector<Part> parts_;
  kernels::StepNumbers numbers_;
  at::Tensor norms_;  // double [parts]: squared norms; undefined for one part
  std::unique_ptr<kernels::CapturedWork> captured_norm_, captured_update_;  // with train.cuda_graph
};

}  // namespace gato::train
