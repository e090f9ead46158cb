#include "micro_step.h"

#include <ATen/ATen.h>

#include "gato/core/profile.h"
#include "meters.h"

namespace gato::train {
namespace {

at::Tensor squared_lengths(const at::Tensor& gradient, const at::Tensor& positions) {
  if (gradient.is_cpu()) return gradient_squares(gradient.to(at::kFloat).contiguous(), positions);
  return gradient.index_select(0, positions).to(at::kFloat).square().sum(1, false, at::kDouble);
}

}  // namespace

MicroResult differentiate(const model::Model& model, const model::LossResult& result, const at::Tensor& hidden,
                          const at::Tensor& positions) {
  hidden.retain_grad();
  model.backward(result.loss);
  const profile::Scope scope("meters");
  return {result.loss.detach(), result.nll, squared_lengths(hidden.grad(), positions)};
}

MicroResult micro_step(const model::Model& model, const BatchTensors& tensors, model::ForwardOptions options,
                       double soft_target_bins) {
  at::Tensor hidden;
  options.hidden = &hidden;
  const model::LossResult result = model.loss(tensors.input, tensors.loss, options, soft_target_bins);
  return differentiate(model, result, hidden, tensors.loss.positions);
}

}  // namespace gato::train
