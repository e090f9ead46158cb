#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>

namespace gato::kernels {

/// Rows `positions` (int64 [P], in [0, N)) of `x` [N, C], fp32 or bf16, as a tensor of their own. No gradients: those
/// of y are spread_rows(dy, positions, N). On a device positions are not looked at; those outside give rows of NaN.
[[nodiscard]] at::Tensor gather_rows(const at::Tensor& x, const at::Tensor& positions);

/// `x` [P, C] as the rows `positions`, which must ascend, of a tensor [rows, C] that is zero elsewhere.
[[nodiscard]] at::Tensor spread_rows(const at::Tensor& x, const at::Tensor& positions, int64_t rows);

}  // namespace gato::kernels
