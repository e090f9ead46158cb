#pragma once
#include <cstdint>

#include "gato/kernels/parameter.h"

namespace gato::kernels {

/// Which random stream decides what is dropped. Element (token t of row r, column c) depends on (key, first_row + r, t,
/// c) alone, so a batch may be cut into any micro-batches.
struct DropoutStream {
  uint64_t key = 0;        ///< Of seed, step and place in the model.
  int64_t first_row = 0;   ///< Number of row 0.
  int64_t row_tokens = 1;  ///< Rows of `x` per row of the batch.
  /// int64 [2] on x's device: `key` and `first_row` are read there instead when the mask is drawn, so that a CUDA graph
  /// draws others at every replay. Not on the CPU. Undefined: the values above.
  at::Tensor device_key = {};
};

/// Zeros each element of `x` [B x row_tokens, C] with `probability` in [0, 1) and divides the others by 1 - probability
/// (Srivastava et al. 2014, scaled in training so that evaluation needs nothing). The mask is drawn again in backward,
/// not kept. Throws ContractError for other shapes.
[[nodiscard]] at::Tensor dropout(const at::Tensor& x, double probability, const DropoutStream& stream);

}  // namespace gato::kernels
