#pragma once
#include <cstdint>

#include "kernels/cuda/types.h"

namespace gato::kernels::cuda {

/// Which random stream decides what is dropped: element (token t of row r, column c) depends on (key, first_row + r, t,
/// c) alone, by the same numbers as on the CPU (gato/kernels/dropout.h).
struct DropoutKey {
  uint64_t key = 0;
  int64_t first_row = 0;  ///< Number of row 0.
};

/// y = x with each element zeroed with `probability`, the others divided by 1 - probability. Backward is the same call
/// on gradients: the mask is drawn again.
struct Dropout {
  Element element = Element::kFloat32;  ///< kFloat32 or kBFloat16.
  int64_t tokens = 0, width = 0;
  int64_t row_tokens = 1;  ///< Tokens per row of the batch; divides `tokens`.
  const void* x = nullptr;
  void* y = nullptr;                       ///< May be `x`.
  double probability = 0;                  ///< In [0, 1).
  DropoutKey key = {};                     ///< Used where `device_key` is null.
  const DropoutKey* device_key = nullptr;  ///< On the device, so that a captured graph draws anew at every replay.
};
void dropout(const Dropout& call, Stream stream);

}  // namespace gato::kernels::cuda
