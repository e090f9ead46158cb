#include "gato/kernels/optimizer.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include <cmath>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/profile.h"
#include "kernels/checks.h"
#include "kernels/cpu/optimizer.h"
#include "kernels/cpu/rows.h"
#include "kernels/data.h"
#include "kernels/device_ops.h"
#include "kernels/parallel.h"

namespace gato::kernels {
namespace {

cpu::AdamWFactors make_factors(const AdamWStep& step, bool decay) {
  const double steps = static_cast<double>(step.step);
  const double correction_1 = 1 - std::pow(step.beta_1, steps);
  const double correction_2 = 1 - std::pow(step.beta_2, steps);
  return {.grad_scale = static_cast<float>(step.grad_scale),
          .beta_1 = static_cast<float>(step.beta_1),
          .beta_2 = static_cast<float>(step.beta_2),
          .keep = static_cast<float>(decay ? 1 - step.learning_rate * step.weight_decay : 1),
          .step_size = static_cast<float>(step.learning_rate / correction_1),
          .inverse_correction = static_cast<float>(1 / std::sqrt(correction_2)),
          .epsilon = static_cast<float>(step.epsilon)};
}

constexpr int64_t kBlock = 1 << 14;  // elements that one thread updates at a time

struct Block {
  int64_t begin, size;
  bool decay;
};

void check_spans(std::span<const UpdateSpan> spans, int64_t elements) {
  for (const UpdateSpan& span : spans) {
    GATO_CHECK(span.offset >= 0 && span.size >= 0 && span.offset + span.size <= elements, "span [", span.offset, ", ",
               span.offset + span.size, ") lies outside the buffer of ", elements, " elements");
  }
}

std::vector<Block> cut(std::span<const UpdateSpan> spans) {
  std::vector<Block> blocks;
  for (const UpdateSpan& span : spans) {
    for (int64_t at = 0; at < span.size; at += kBlock) {
      blocks.push_back({span.offset + at, std::min(kBlock, span.size - at), span.decay});
    }
  }
  return blocks;
}

/// Checks what adamw_step and adamw_update have in common.
void check_buffers(const at::Tensor& values, const at::Tensor& gradients, const at::Tensor& first_moment,
                   const at::Tensor& second_moment, std::span<const UpdateSpan> spans, const at::Tensor& compute) {
  check_tensor(values, "values", at::kFloat, {-1});
  check_tensor(gradients, "gradients", at::kFloat, {values.size(0)});
  check_tensor(first_moment, "first_moment", at::kFloat, {values.size(0)});
  check_tensor(second_moment, "second_moment", at::kFloat, {values.size(0)});
  if (compute.defined()) check_tensor(compute, "compute", at::kBFloat16, {values.size(0)});
  check_same_device(values, {{"gradients", &gradients},
                             {"first_moment", &first_moment},
                             {"second_moment", &second_moment},
                             {"compute", &compute}});
  check_spans(spans, values.size(0));
}

/// The decision on an update, as prepare_update of src/kernels/cuda/optimizer.cu takes it on a GPU.
UpdateOutcome decide(const StepNumbers& numbers) {
  const auto* sums = numbers.sums().const_data_ptr<double>();
  UpdateOutcome outcome;
  outcome.weight_sum = sums[2];
  outcome.loss = sums[1] / outcome.weight_sum;
  outcome.gradient_norm = std::sqrt(sums[0]) / outcome.weight_sum;
  outcome.refused = !(outcome.weight_sum > 0 && std::isfinite(outcome.loss) && std::isfinite(outcome.gradient_norm));
  return outcome;
}

AdamWStep step_of(const UpdateOutcome& outcome, const AdamWSettings& settings, const StepNumbers& numbers) {
  const auto* rates = numbers.rates().const_data_ptr<double>();
  const bool clip = settings.clip_norm > 0 && outcome.gradient_norm > settings.clip_norm;
  AdamWStep step;
  step.learning_rate = rates[0];
  step.beta_1 = settings.beta_1;
  step.beta_2 = settings.beta_2;
  step.epsilon = settings.epsilon;
  step.weight_decay = settings.weight_decay;
  step.step = static_cast<int64_t>(rates[1]) + 1;
  step.grad_scale = (clip ? settings.clip_norm / outcome.gradient_norm : 1) / outcome.weight_sum;
  return step;
}

void check_settings(const AdamWSettings& s) {
  GATO_CHECK(s.beta_1 >= 0 && s.beta_1 < 1 && s.beta_2 >= 0 && s.beta_2 < 1, "betas must be in [0, 1), are ", s.beta_1,
             " and ", s.beta_2);
}

}  // namespace

StepNumbers::StepNumbers(at::Device device)
    : given_(at::zeros({5}, at::TensorOptions().dtype(at::kDouble).device(device))),
      sums_(given_.slice(0, 0, 3)),
      squared_norm_(given_.slice(0, 0, 1)),
      loss_(given_.select(0, 1)),
      rates_(given_.slice(0, 3, 5)),
      outcome_(at::zeros({4}, given_.options())) {}

void StepNumbers::begin(double weight_sum, double learning_rate, int64_t updates) {
  GATO_CHECK(updates >= 0, updates, " updates were done before");
  const at::Tensor host = at::tensor({0.0, 0.0, weight_sum, learning_rate, static_cast<double>(updates)}, at::kDouble);
  given_.copy_(given_.is_cpu() ? host : host.pin_memory(), /*non_blocking=*/true);
}

void StepNumbers::add_loss(const at::Tensor& loss) { loss_.add_(loss); }

UpdateOutcome StepNumbers::read() const {
  const at::Tensor host = outcome_.cpu();
  const auto* values = host.const_data_ptr<double>();
  return {values[0], values[1], values[2], values[3] != 0};
}

void adamw_update(const at::Tensor& values, const at::Tensor& gradients, const at::Tensor& first_moment,
                  const at::Tensor& second_moment, std::span<const UpdateSpan> spans, const AdamWSettings& settings,
                  const StepNumbers& numbers, const at::Tensor& compute) {
  check_buffers(values, gradients, first_moment, second_moment, spans, compute);
  check_settings(settings);
  check_same_device(values, {{"the step's numbers", &numbers.sums()}});
  if (const DeviceOps* ops = device_ops(values)) {
    const profile::Scope scope("optimizer");
    return ops->adamw_update(values, gradients, first_moment, second_moment, spans, settings, numbers, compute);
  }
  const UpdateOutcome outcome = decide(numbers);
  auto* told = numbers.outcome().mutable_data_ptr<double>();
  told[0] = outcome.loss;
  told[1] = outcome.gradient_norm;
  told[2] = outcome.weight_sum;
  told[3] = outcome.refused ? 1 : 0;
  if (outcome.refused) return;
  adamw_step(values, gradients, first_moment, second_moment, spans, step_of(outcome, settings, numbers), compute);
}

void adamw_step(const at::Tensor& values, const at::Tensor& gradients, const at::Tensor& first_moment,
                const at::Tensor& second_moment, std::span<const UpdateSpan> spans, const AdamWStep& step,
                const at::Tensor& compute) {
  const profile::Scope scope("optimizer");
  check_buffers(values, gradients, first_moment, second_moment, spans, compute);
  GATO_CHECK(step.step >= 1, "steps are counted from 1, got ", step.step);
  if (const DeviceOps* ops = device_ops(values))
    return ops->adamw_step(values, gradients, first_moment, second_moment, spans, step, compute);
  const std::vector<Block> blocks = cut(spans);
  const cpu::AdamWFactors with_decay = make_factors(step, true);
  const cpu::AdamWFactors without = make_factors(step, false);
  auto* value = values.mutable_data_ptr<float>();
  const auto* gradient = gradients.const_data_ptr<float>();
  auto* first = first_moment.mutable_data_ptr<float>();
  auto* second = second_moment.mutable_data_ptr<float>();
  auto* copy = compute.defined() ? mutable_data<cpu::Bf16>(compute) : nullptr;
  for_ranges(static_cast<int64_t>(blocks.size()), 2048, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Block& block = blocks[static_cast<size_t>(i)];
      cpu::adamw_update(block.decay ? with_decay : without, value + block.begin, gradient + block.begin,
                        first + block.begin, second + block.begin, copy == nullptr ? nullptr : copy + block.begin,
                        block.size);
    }
  });
}

void round_to_bf16(const at::Tensor& from, const at::Tensor& to) {
  check_tensor(from, "from", at::kFloat, {-1});
  check_tensor(to, "to", at::kBFloat16, {from.size(0)});
  check_same_device(from, {{"to", &to}});
  if (const DeviceOps* ops = device_ops(from)) return ops->round_to_bf16(from, to);
  const auto* x = from.const_data_ptr<float>();
  auto* y = mutable_data<cpu::Bf16>(to);
  for_ranges(from.numel(), 1, [&](int64_t begin, int64_t end) { cpu::convert(x + begin, y + begin, end - begin); });
}

void squared_norm(const at::Tensor& x, const at::Tensor& norm) {
  const profile::Scope scope("gradient norm");
  check_tensor(x, "x", at::kFloat, {-1});
  check_tensor(norm, "norm", at::kDouble, {1});
  check_same_device(x, {{"norm", &norm}});
  if (const DeviceOps* ops = device_ops(x)) return ops->squared_norm(x, norm);
  const Chunks chunks = make_chunks(x.numel(), 1 << 16, 256);
  std::vector<double> parts(static_cast<size_t>(chunks.number), 0.0);
  const auto* data = x.const_data_ptr<float>();
  for_chunks(chunks, [&](int64_t chunk) {
    parts[static_cast<size_t>(chunk)] =
        cpu::square_sum(data + chunks.begin(chunk), chunks.end(chunk) - chunks.begin(chunk));
  });
  double total = 0;
  for (const double part : parts) total += part;
  *norm.mutable_data_ptr<double>() = total;
}

double squared_norm(const at::Tensor& x) {
  const at::Tensor norm = at::empty({1}, x.options().dtype(at::kDouble));
  squared_norm(x, norm);
  return norm.item<double>();
}

}  // namespace gato::kernels
