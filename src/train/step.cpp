#include "step.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "gato/core/profile.h"
#include "gato/core/text.h"
#include "gato/kernels/optimizer.h"
#include "gato/train/batch_tensors.h"

namespace gato::train {

StepResult Stepper::run(const data::Batch& batch, TrainingState& state, LabelMeter& meter) {
  model_.store().zero_gradients();
  const int64_t micro = config_.train.micro_batch_rows.of(batch.rows);
  double weight_sum = 0, summed_loss = 0;
  for (int64_t first = 0; first < batch.rows; first += micro) {
    const BatchTensors tensors = [&] {
      const profile::Scope scope("tensors of the batch");
      return batch_tensors(batch, first, std::min(micro, batch.rows - first));
    }();
    if (tensors.loss_sources.empty()) continue;
    at::Tensor hidden;
    model::ForwardOptions options;
    options.training = true;
    options.seed = static_cast<uint64_t>(config_.train.seed);
    options.step = state.step;
    options.first_row = batch.first_row + first;
    options.recompute = config_.train.recompute;
    options.hidden = &hidden;
    const model::LossResult result = model_.loss(tensors.input, tensors.loss, options, config_.train.soft_target_bins);
    hidden.retain_grad();
    model_.backward(result.loss);
    summed_loss += result.loss.item<double>();
    weight_sum += tensors.weight_sum;
    const profile::Scope scope("meters");
    meter.add(result.nll, tensors.loss_sources);
    meter.add_gradients(hidden.grad().to(at::kFloat).contiguous(), tensors.loss.positions, tensors.loss_sources);
  }
  state.step += 1;
  state.next_row += config_.train.batch_rows;
  state.tokens += batch.tokens;
  StepResult done;
  if (weight_sum == 0) {
    done.loss = std::numeric_limits<double>::quiet_NaN();
    return done;
  }
  done.loss = summed_loss / weight_sum;
  done.gradient_norm = std::sqrt(kernels::squared_norm(model_.store().gradients())) / weight_sum;
  if (std::isfinite(done.loss) && std::isfinite(done.gradient_norm)) {
    update(done.gradient_norm, weight_sum, state);
  } else {
    done.refused = cat("loss ", done.loss, ", gradient norm ", done.gradient_norm);
  }
  return done;
}

void Stepper::update(double norm, double weight_sum, TrainingState& state) {
  std::vector<kernels::UpdateSpan> spans;
  for (const model::Segment& segment : model_.store().segments()) {
    if (segment.trainable) spans.push_back({segment.offset, segment.size, segment.decay});
  }
  const OptimizerConfig& optimizer = config_.optimizer;
  kernels::AdamWStep update;
  update.learning_rate = learning_rate(optimizer, state.step, config_.train.steps);
  update.beta_1 = optimizer.beta_1;
  update.beta_2 = optimizer.beta_2;
  update.epsilon = optimizer.epsilon;
  update.weight_decay = optimizer.weight_decay;
  update.step = ++state.updates;
  const bool clip = optimizer.clip_norm > 0 && norm > optimizer.clip_norm;
  update.grad_scale = (clip ? optimizer.clip_norm / norm : 1) / weight_sum;
  model_.store().update(optimizer_.first_moment, optimizer_.second_moment, spans, update);
}

}  // namespace gato::train
