#pragma once
#include "gato/train/batch_tensors.h"

namespace gato::train {

/// What a micro-batch leaves for the meters, on the model's device.
struct MicroResult {
  at::Tensor loss;              ///< fp32 []: summed.
  at::Tensor nll;               ///< fp32 [P].
  at::Tensor gradient_squares;  ///< double [P]: squared lengths of the hidden states' gradients.
};

/// Backward of `result`, which was computed from the hidden states `hidden`: adds to the model's gradients.
[[nodiscard]] MicroResult differentiate(const model::Model& model, const model::LossResult& result,
                                        const at::Tensor& hidden, const at::Tensor& positions);

/// Forward and backward of a micro-batch.
[[nodiscard]] MicroResult micro_step(const model::Model& model, const BatchTensors& tensors,
                                     model::ForwardOptions options, double soft_target_bins);

}  // namespace gato::train
