#pragma once
#include <cstdint>
#include <span>

#include "gato/kernels/parameter.h"

namespace gato::kernels {

/// A stretch of the flat buffers that is updated alike. Elements outside every span are left alone.
struct UpdateSpan {
  int64_t offset = 0, size = 0;
  bool decay = true;  ///< Whether weight decay applies.
};

struct AdamWStep {
  double learning_rate = 0;
  double beta_1 = 0.9, beta_2 = 0.95, epsilon = 1e-8;
  double weight_decay = 0;
  int64_t step = 1;       ///< Number of this update, from 1, for the bias correction.
  double grad_scale = 1;  ///< Multiplies every gradient first: 1 / sum of loss weights, times the clipping factor.
};

/// One pass of AdamW (Loshchilov and Hutter 2019, as torch.optim.AdamW computes it) over flat fp32 tensors of one size:
/// `values`, `gradients`, `first_moment`, `second_moment`. Elementwise, so the number of threads does not matter.
/// `compute`, when defined, is a bf16 tensor of the same size that receives the new values in the same pass.
void adamw_step(const at::Tensor& values, const at::Tensor& gradients, const at::Tensor& first_moment,
                const at::Tensor& second_moment, std::span<const UpdateSpan> spans, const AdamWStep& step,
                const at::Tensor& compute = {});

/// to = from, fp32 rounded to bf16, both dense and of one size.
void round_to_bf16(const at::Tensor& from, const at::Tensor& to);

/// Sum of squares of the elements of a dense fp32 tensor, in double, the same whatever the number of threads. Infinite
/// or NaN when an element is: check with std::isfinite before updating.
[[nodiscard]] double squared_norm(const at::Tensor& x);

}  // namespace gato::kernels
