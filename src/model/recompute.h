#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <utility>

namespace gato::model {

/// A block of the decoder: (residual stream, what is to be added to it) -> the same behind the block. The second may be
/// undefined on entry. Called again in backward, so it must hold what it refers to and give the same bits.
using BlockFunction = std::function<std::pair<at::Tensor, at::Tensor>(const at::Tensor& x, const at::Tensor& delta)>;

/// Calls `block` and keeps its inputs alone; backward calls it once more and goes through that graph (Chen et al. 2016,
/// "Training Deep Nets with Sublinear Memory Cost"). Gradients have the same bits as without.
[[nodiscard]] std::pair<at::Tensor, at::Tensor> recomputed(BlockFunction block, const at::Tensor& x,
                                                           const at::Tensor& delta);

}  // namespace gato::model
