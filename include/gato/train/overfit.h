#pragma once
#include <functional>

#include "gato/data/batch.h"
#include "gato/train/config.h"

namespace gato::train {

/// The lowest mean loss, in nats per summed loss weight, that any model can have on `batch` which sees of a label what
/// stands before it in its sequence: labels behind the same tokens, positions and patches can do no better than their
/// own frequencies. `action_inputs`: ModelConfig's.
[[nodiscard]] double lowest_loss(const data::Batch& batch, bool action_inputs = true);

struct OverfitOptions {
  int64_t steps = 1000;     ///< At most.
  double tolerance = 0.05;  ///< Nats per summed loss weight above lowest_loss() at which it is done; > 0.
};

struct OverfitOutcome {
  int64_t steps = 0;  ///< Updates done.
  double first_loss = 0, loss = 0;
  double lowest = 0;     ///< lowest_loss() of the batch.
  bool reached = false;  ///< loss <= lowest + tolerance.
};

/// Trains a fresh model on the first batch of the run alone, until it knows it by heart: a model, tokenizer or mask
/// that is broken cannot. Constant learning rate after a short warm-up; weight decay, stochastic depth, dropout and
/// soft targets are off. Writes nothing; `report` is told loss and step at growing distances. Throws as train() does;
/// and DataError when the batch has no label.
OverfitOutcome overfit_one_batch(const TrainingConfig& config, const OverfitOptions& options,
                                 const std::function<void(int64_t step, double loss)>& report = {});

}  // namespace gato::train
