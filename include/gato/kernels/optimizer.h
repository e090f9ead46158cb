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

/// AdamW's settings that stay the same from step to step.
struct AdamWSettings {
  double beta_1 = 0.9, beta_2 = 0.95, epsilon = 1e-8;
  double weight_decay = 0;
  double clip_norm = 0;  ///< A larger norm of the mean loss's gradient is scaled down to it; 0: never.
};

/// What became of a step.
struct UpdateOutcome {
  double loss = 0;           ///< Per summed loss weight; NaN without weight.
  double gradient_norm = 0;  ///< Of that loss, before clipping.
  double weight_sum = 0;
  bool refused = false;  ///< Loss or norm was not finite, or there was no weight: nothing was updated.
};

/// The numbers of one step, in the memory of the device where the gradients are: there the update is decided from them,
/// so that the host need not wait before it is put on the way. The tensors stay the same from step to step.
class StepNumbers {
 public:
  explicit StepNumbers(at::Device device);

  /// Begins a step with what the host knows: the loss's weights, the learning rate, and the updates done before. Sums
  /// of the step before are gone.
  void begin(double weight_sum, double learning_rate, int64_t updates);
  /// Adds a micro-batch's summed loss, fp32 [] on the device.
  void add_loss(const at::Tensor& loss);
  /// Waits for the update and tells what became of it.
  [[nodiscard]] UpdateOutcome read() const;

  /// double [3]: squared norm of the gradients, summed loss, sum of its weights. Processes that share a step add theirs
  /// up (one all-reduce) before adamw_update.
  [[nodiscard]] const at::Tensor& sums() const { return sums_; }
  [[nodiscard]] const at::Tensor& squared_norm() const { return squared_norm_; }  ///< Of these the first: double [1].
  [[nodiscard]] const at::Tensor& rates() const { return rates_; }      ///< double [2]: learning rate, updates before.
  [[nodiscard]] const at::Tensor& outcome() const { return outcome_; }  ///< double [4]: UpdateOutcome's members.

 private:
  at::Tensor given_, sums_, squared_norm_, loss_, rates_;  // parts of given_
  at::Tensor outcome_;
};

/// adamw_step with learning rate, number, and scale of the gradients from `numbers`, whose sums are complete, or
/// nothing at all where the update is refused: not a bit changes. On a GPU all of it is only put on the current stream.
void adamw_update(const at::Tensor& values, const at::Tensor& gradients, const at::Tensor& first_moment,
                  const at::Tensor& second_moment, std::span<const UpdateSpan> spans, const AdamWSettings& settings,
                  const StepNumbers& numbers, const at::Tensor& compute = {});

/// to = from, fp32 rounded to bf16, both dense and of one size.
void round_to_bf16(const at::Tensor& from, const at::Tensor& to);

/// Sum of squares of the elements of a dense fp32 tensor, in double, the same whatever the number of threads. Infinite
/// or NaN when an element is: check with std::isfinite before updating.
[[nodiscard]] double squared_norm(const at::Tensor& x);
/// The same into `norm`, double [1] on x's device, without waiting for the device.
void squared_norm(const at::Tensor& x, const at::Tensor& norm);

}  // namespace gato::kernels
