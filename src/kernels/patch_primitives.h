#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <tuple>

/// The parts of the patch embedder between its convolutions, by LibTorch's own operations: what a GPU computes, where
/// they go through cuDNN and its kin. Features are [M, Ch, side, side], channels last in memory.
namespace gato::kernels::device {

/// Convolutions on a GPU give the same bits on every run from now on, in the whole process. Without it cuDNN may add
/// gradients of weights in any order.
void make_convolutions_repeatable();

/// (p / 127.5 - 1) / 4 of pixels uint8 [M, side, side, 3], as features.
[[nodiscard]] at::Tensor pixels(const at::Tensor& patches);

/// GELU(GroupNorm(x)) and statistics [2, M, groups] (mean, inverse deviation).
[[nodiscard]] std::pair<at::Tensor, at::Tensor> normalise(const at::Tensor& x, const at::Tensor& gain,
                                                          const at::Tensor& offset, int64_t groups, double epsilon);
/// Gradients of x, gain and offset.
[[nodiscard]] std::tuple<at::Tensor, at::Tensor, at::Tensor> normalise_backward(
    const at::Tensor& dy, const at::Tensor& x, const at::Tensor& statistics, const at::Tensor& gain,
    const at::Tensor& offset, int64_t groups);

/// Average of a + b over `cells` x `cells` cells: [M, cells x cells x Ch].
[[nodiscard]] at::Tensor pool(const at::Tensor& a, const at::Tensor& b, int64_t cells);
/// The gradient of a, and of b.
[[nodiscard]] at::Tensor pool_backward(const at::Tensor& dy, int64_t channels, int64_t side, int64_t cells);

}  // namespace gato::kernels::device
