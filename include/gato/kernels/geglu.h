#pragma once
#include "gato/kernels/parameter.h"

namespace gato::kernels {

/// gelu(gate) * value for `x` [N, 2 F] whose first F columns are the gate, the last F the value (Shazeer 2020, "GLU
/// Variants Improve Transformer"); GELU in its exact form by erf. `x` is fp32 or
/// bf16, as the result is. Returns [N, F].
[[nodiscard]] at::Tensor geglu(const at::Tensor& x);

}  // namespace gato::kernels
