#pragma once
#include <cstdint>

#include "gato/kernels/attention.h"

namespace gato::kernels {

/// Throws ContractError unless `rotary` is undefined, or fits heads of `head_dim` and has at least `positions`
/// positions.
void check_rotary(const RotaryTable& rotary, int64_t head_dim, int64_t positions);

}  // namespace gato::kernels
