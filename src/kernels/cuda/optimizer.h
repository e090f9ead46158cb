#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "kernels/cuda/types.h"

namespace gato::kernels::cuda {

/// A stretch of the flat buffers that is updated alike.
struct FlatSpan {
  int64_t offset = 0, size = 0;
  bool decay = true;  ///< Whether weight decay applies.
};

/// What one block of threads updates. The caller keeps a table of these on the device.
struct UpdateBlock {
  int64_t offset = 0;
  int32_t size = 0;
  int32_t decay = 0;
};

/// Cuts spans into blocks, in a host vector to be copied to the device once per run. Elements outside every span are
/// left alone. Throws ContractError for spans that overlap or reach out of a buffer of `elements`.
[[nodiscard]] std::vector<UpdateBlock> make_update_blocks(std::span<const FlatSpan> spans, int64_t elements);

/// What prepare_update tells adamw_update, in device memory.
struct PreparedUpdate {
  int32_t refused = 0;           ///< 1: loss or norm is not finite, or there was no weight; nothing will be updated.
  float grad_scale = 0;          ///< Multiplies every gradient: clipping factor / sum of weights.
  float keep = 0;                ///< 1 - learning rate x weight decay.
  float step_size = 0;           ///< Learning rate / (1 - beta_1^number of this update).
  float inverse_correction = 0;  ///< 1 / sqrt(1 - beta_2^number of this update).
};

/// Decides on an update from numbers that only the device knows, so that a captured step needs no host in between. All
/// pointers are to one value each in device memory, unless said.
struct PrepareUpdate {
  const double* squared_norm = nullptr;   ///< Of the gradients of the summed loss.
  const double* loss_sum = nullptr;       ///< Sum of weight x loss.
  const double* weight_sum = nullptr;     ///< Sum of the weights.
  const double* learning_rate = nullptr;  ///< Of this step.
  const double* updates = nullptr;        ///< Updates done before: whole, not negative.
  PreparedUpdate* prepared = nullptr;     ///< Written.
  double* outcome = nullptr;  ///< Written, four values: mean loss, norm of its gradient before clipping, sum
                              ///< of the weights, and 1 if the update is refused, else 0.
  double beta_1 = 0.9, beta_2 = 0.95, weight_decay = 0;
  double clip_norm = 0;  ///< Larger gradient norms are scaled down to it; 0: never.
};
void prepare_update(const PrepareUpdate& call, Stream stream);

/// One pass of AdamW as in gato/kernels/optimizer.h over flat buffers on the device. Does nothing when the prepared
/// update is refused.
struct AdamWUpdate {
  const UpdateBlock* blocks = nullptr;  ///< [num_blocks] on the device, from make_update_blocks for these buffers.
  int64_t num_blocks = 0;
  float* values = nullptr;
  const float* gradients = nullptr;
  float* first_moment = nullptr;
  float* second_moment = nullptr;
  void* compute = nullptr;  ///< bfloat16 copy of the values, kept in step; null: none.
  const PreparedUpdate* prepared = nullptr;
  double beta_1 = 0.9, beta_2 = 0.95, epsilon = 1e-8;
};
void adamw_update(const AdamWUpdate& call, Stream stream);

}  // namespace gato::kernels::cuda
