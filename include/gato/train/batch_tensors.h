#pragma once
#include "gato/data/batch.h"
#include "gato/model/model.h"

namespace gato::train {

/// A batch, or some rows of it, as the model takes it. The input's tensors are views of the batch, which must outlive
/// them.
struct BatchTensors {
  model::ModelInput input;
  model::LossInput loss;
  std::vector<int32_t> loss_sources;  ///< Source of every loss position.
  double weight_sum = 0;              ///< Of the loss positions.
};

/// Rows [first, first + count) of `batch`, counted inside the batch.
[[nodiscard]] BatchTensors batch_tensors(const data::Batch& batch, int64_t first, int64_t count);

}  // namespace gato::train
