#pragma once
#include <cstdint>

#include "kernels/cpu/lanes.h"

namespace gato::kernels::cpu {

/// log(sum(exp(logits))) of `n` >= 1 logits.
[[nodiscard]] float log_sum_exp(const float* logits, int64_t n);
[[nodiscard]] float log_sum_exp(const Bf16* logits, int64_t n);

/// logits = weight x softmax(logits) in place, given their log_sum_exp.
void softmax_times(float* logits, int64_t n, float log_sum, float weight);
void softmax_times(Bf16* logits, int64_t n, float log_sum, float weight);

}  // namespace gato::kernels::cpu
