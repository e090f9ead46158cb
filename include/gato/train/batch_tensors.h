#pragma once
#include "gato/data/batch.h"
#include "gato/model/model.h"

namespace gato::train {

/// A batch, or some rows of it, as the model takes it. The input's tensors are views of the batch, which must outlive
/// them.
struct BatchTensors {
  model::ModelInput input;
  model::LossInput loss;
  std::vector<int32_t> loss_sources;  ///< Source of every loss position; -1: none, see pad_sizes().
  double weight_sum = 0;              ///< Of the loss positions.
};

/// use(x) for every tensor of `tensors`, defined or not.
template <class Tensors, class Use>
void for_each_tensor(Tensors& tensors, const Use& use) {
  auto& [ids, starts, locals, patch_index, patches, patch_rows, patch_columns, bounds] = tensors.input;
  auto& [positions, targets, weights] = tensors.loss;
  (use(ids), use(starts), use(locals), use(patch_index), use(patches), use(patch_rows), use(patch_columns));
  use(bounds.boundaries);
  (use(positions), use(targets), use(weights));
}

/// The tensors on `device`: themselves on the CPU, else copies.
[[nodiscard]] BatchTensors to_device(BatchTensors tensors, at::Device device);

/// Rows [first, first + count) of `batch`, counted inside the batch.
[[nodiscard]] BatchTensors batch_tensors(const data::Batch& batch, int64_t first, int64_t count);

/// The same loss and gradients in tensors of few different sizes, as CUDA graphs want them. The loss positions become a
/// multiple of kLossStep (all places, where there are no more): the first unused places join them in order, with weight
/// 0 and source -1. The boundaries of sequences become a multiple of kBoundaryStep: the last one again, which is an
/// empty sequence, and the longest counts as a whole row. For tensors on the CPU; none without a loss position changes.
constexpr int64_t kLossStep = 256, kBoundaryStep = 64;
[[nodiscard]] BatchTensors pad_sizes(BatchTensors tensors);

}  // namespace gato::train
