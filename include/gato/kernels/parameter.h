#pragma once
#include <ATen/core/Tensor.h>

/// Operations of the model on tensors. Every differentiable operation is one node of LibTorch's graph with a
/// hand-written backward: gradients of its inputs go through the graph, gradients of its parameters are added straight
/// into the fp32 views of the flat gradient buffer. Gradients are recorded when LibTorch's gradient mode is on and an
/// input requires grad or a parameter has a gradient. Same inputs and same number of threads give the same bits.
///
/// Tensors are dense fp32 on the CPU unless said otherwise. "fp32 or bf16" is the type in which activations go into and
/// come out of matrix products; sums, softmax, norms and losses are computed in fp32 either way, and parameters, their
/// gradients and the residual stream are fp32. Shape letters: B rows, T tokens per row, N = B x T, C
/// width, H heads, D head dimension, I / O features in and out, P positions with loss, V vocabulary.
namespace gato::kernels {

/// A parameter as operations see it: views of the flat buffers, which must outlive the graph. Neither requires grad.
struct Parameter {
  at::Tensor value = {};     ///< Undefined: absent (a linear without bias), or a linear's weight with `compute` alone.
  at::Tensor gradient = {};  ///< Same shape; backward adds to it. Undefined: the parameter is frozen.
  at::Tensor compute =
      {};  ///< `value` rounded to bf16, for products with bf16 activations. Undefined: only fp32 works.
  const char* name =
      "";  ///< For profiles, without layer numbers: "attention.qkv.weight". Lives as long as the process.

  [[nodiscard]] bool defined() const { return value.defined(); }
};

}  // namespace gato::kernels
