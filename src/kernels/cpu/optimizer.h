#pragma once
#include <cstdint>

#include "kernels/cpu/lanes.h"

namespace gato::kernels::cpu {

/// The scalars of one AdamW update, prepared.
struct AdamWFactors {
  float grad_scale;
  float beta_1, beta_2;
  float keep;                ///< 1 - learning rate x weight decay.
  float step_size;           ///< learning rate / (1 - beta_1^step).
  float inverse_correction;  ///< 1 / sqrt(1 - beta_2^step).
  float epsilon;
};
/// `copy` receives the new values in bfloat16; null: not wanted.
void adamw_update(const AdamWFactors& factors, float* values, const float* gradients, float* first, float* second,
                  Bf16* copy, int64_t n);

/// Sum of squares of `n` floats, in double.
[[nodiscard]] double square_sum(const float* x, int64_t n);

}  // namespace gato::kernels::cpu
