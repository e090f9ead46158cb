#pragma once
#include <ATen/core/Tensor.h>

namespace gato::kernels {

/// totals[:] += the sum of the rows of `x` [N, C], fp32 or bf16, in an order that does not depend on the number of
/// threads.
void add_column_sums(const at::Tensor& x, const at::Tensor& totals);

}  // namespace gato::kernels
