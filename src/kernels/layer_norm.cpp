#include "gato/kernels/layer_norm.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <vector>

#include "gato/core/error.h"
#include "gato/core/profile.h"
#include "kernels/checks.h"
#include "kernels/cpu/layer_norm.h"
#include "kernels/cpu/rows.h"
#include "kernels/data.h"
#include "kernels/device_ops.h"
#include "kernels/graph.h"
#include "kernels/parallel.h"

namespace gato::kernels {
namespace {

const float* factors_of(const at::Tensor& scale) { return scale.defined() ? scale.const_data_ptr<float>() : nullptr; }

int64_t rows_per_factor(const at::Tensor& scale, int64_t rows) {
  return scale.defined() && scale.size(0) > 0 ? rows / scale.size(0) : 1;
}

void forward_on_cpu(const NormForward& call) {
  const int64_t rows = call.x.size(0);
  auto* mean = call.statistics.mutable_data_ptr<float>();
  with_type_of(call.y, [&]<class T>(T) {
    const cpu::LayerNormForward<T> task{.x = call.x.const_data_ptr<float>(),
                                        .delta = data_or_null<T>(call.delta),
                                        .factors = factors_of(call.factors),
                                        .rows_per_factor = rows_per_factor(call.factors, rows),
                                        .gain = call.gain.const_data_ptr<float>(),
                                        .offset = call.offset.const_data_ptr<float>(),
                                        .width = call.x.size(1),
                                        .epsilon = static_cast<float>(kLayerNormEpsilon),
                                        .sum = call.sum.defined() ? call.sum.mutable_data_ptr<float>() : nullptr,
                                        .y = mutable_data<T>(call.y),
                                        .mean = mean,
                                        .inverse_deviation = mean + rows};
    for_ranges(rows, 2 * task.width, [&](int64_t begin, int64_t end) { cpu::layer_norm_forward(task, begin, end); });
  });
}

/// Sums the parameters' gradients over fixed chunks of rows, so that the result does not depend on the number of
/// threads.
template <class T>
void run_backward(const cpu::LayerNormBackward<T>& task, int64_t rows, const at::Tensor& gain,
                  const at::Tensor& offset) {
  const Chunks chunks = make_chunks(rows, 32, 16);
  const int64_t width = task.width;
  std::vector<float> partial(static_cast<size_t>(chunks.number * 2 * width), 0.0f);
  for_chunks(chunks, [&](int64_t chunk) {
    float* gain_part = partial.data() + chunk * 2 * width;
    cpu::layer_norm_backward(task, chunks.begin(chunk), chunks.end(chunk), gain_part, gain_part + width);
  });
  for (int64_t chunk = 0; chunk < chunks.number; ++chunk) {
    const float* gain_part = partial.data() + chunk * 2 * width;
    if (gain.defined()) cpu::add(gain_part, gain.mutable_data_ptr<float>(), width);
    if (offset.defined()) cpu::add(gain_part + width, offset.mutable_data_ptr<float>(), width);
  }
}

void backward_on_cpu(const NormBackward& call) {
  const int64_t rows = call.sum.size(0);
  const auto* mean = call.statistics.const_data_ptr<float>();
  with_type_of(call.y_gradient, [&]<class T>(T) {
    const cpu::LayerNormBackward<T> task{
        .sum = call.sum.const_data_ptr<float>(),
        .mean = mean,
        .inverse_deviation = mean + rows,
        .gain = call.gain.const_data_ptr<float>(),
        .y_gradient = data<T>(call.y_gradient),
        .sum_gradient = data_or_null<float>(call.sum_gradient),
        .factors = factors_of(call.factors),
        .rows_per_factor = rows_per_factor(call.factors, rows),
        .width = call.sum.size(1),
        .x_gradient = call.x_gradient.mutable_data_ptr<float>(),
        .delta_gradient = call.delta_gradient.defined() ? mutable_data<T>(call.delta_gradient) : nullptr};
    run_backward(task, rows, call.gain_gradient, call.offset_gradient);
  });
}

/// Inputs x, delta (may be undefined), scale (may be undefined); outputs sum (x itself without delta) and y.
struct ResidualLayerNormFunction : torch::autograd::Function<ResidualLayerNormFunction> {
  static variable_list forward(AutogradContext* context, const at::Tensor& x, const std::optional<at::Tensor>& residual,
                               const std::optional<at::Tensor>& /*anchor*/, const std::optional<at::Tensor>& factors,
                               const Parameter& gain, const Parameter& offset, at::ScalarType dtype) {
    const profile::Scope scope("norm forward");
    const at::Tensor delta = residual.value_or(at::Tensor());
    const at::Tensor scale = factors.value_or(at::Tensor());
    const int64_t rows = x.size(0);
    const at::Tensor sum = delta.defined() ? at::empty_like(x) : x;
    const at::Tensor y = at::empty_like(x, x.options().dtype(dtype));
    const at::Tensor statistics = at::empty({2, rows}, x.options());
    const NormForward call{x, delta,     scale, gain.value, offset.value, delta.defined() ? sum : at::Tensor(),
                           y, statistics};
    if (const DeviceOps* ops = device_ops(x)) {
      ops->norm_forward(call);
    } else {
      forward_on_cpu(call);
    }
    context->set_materialize_grads(false);
    context->save_for_backward({sum, statistics});
    context->saved_data["scale"] = scale;
    context->saved_data["has_delta"] = delta.defined();
    context->saved_data["dtype"] = static_cast<int64_t>(dtype);
    save_parameter(context, "gain", gain);
    save_parameter(context, "offset", offset);
    return delta.defined() ? variable_list{y, sum} : variable_list{y};
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const profile::Scope scope("norm backward");
    const variable_list saved = context->get_saved_variables();
    const at::Tensor& sum = saved[0];
    const at::Tensor scale = context->saved_data["scale"].toTensor();
    const bool has_delta = context->saved_data["has_delta"].toBool();
    const Parameter gain = saved_parameter(context, "gain");
    const Parameter offset = saved_parameter(context, "offset");
    const auto dtype = static_cast<at::ScalarType>(context->saved_data["dtype"].toInt());
    const at::Tensor dy =
        gradients[0].defined() ? gradients[0].contiguous() : at::zeros_like(sum, sum.options().dtype(dtype));
    const at::Tensor extra = has_delta && gradients[1].defined() ? gradients[1].contiguous() : at::Tensor();
    const at::Tensor dx = at::empty_like(sum);
    // Without factors, and in the same type, the residual branch has the gradient of the sum itself.
    const bool own_delta = has_delta && (scale.defined() || dtype != at::kFloat);
    const at::Tensor d_delta = own_delta ? at::empty_like(dy) : at::Tensor();
    const NormBackward call{sum, saved[1], gain.value, scale, dy, extra, dx, d_delta, gain.gradient, offset.gradient};
    if (const DeviceOps* ops = device_ops(sum)) {
      ops->norm_backward(call);
    } else {
      backward_on_cpu(call);
    }
    return {dx, own_delta || !has_delta ? d_delta : dx, {}, {}, {}, {}, {}};
  }
};

void check_norm(const at::Tensor& x, const Parameter& gain, const Parameter& offset) {
  check_tensor(x, "x", at::kFloat, {-1, -1});
  GATO_CHECK(x.size(1) > 0, "x must have at least one column");
  check_parameter(gain, "gain", {x.size(1)});
  check_parameter(offset, "offset", {x.size(1)});
  check_same_device(x, {{"gain", &gain.value}, {"offset", &offset.value}});
}

}  // namespace

at::Tensor layer_norm(const at::Tensor& x, const Parameter& gain, const Parameter& offset, at::ScalarType dtype) {
  check_norm(x, gain, offset);
  GATO_CHECK(dtype == at::kFloat || dtype == at::kBFloat16, "a norm gives Float or BFloat16, not ",
             c10::toString(dtype));
  return ResidualLayerNormFunction::apply(x, std::optional<at::Tensor>(), graph_anchor({&gain, &offset}),
                                          std::optional<at::Tensor>(), gain, offset, dtype)[0];
}

std::pair<at::Tensor, at::Tensor> residual_layer_norm(const at::Tensor& x, const at::Tensor& delta,
                                                      const at::Tensor& scale, const Parameter& gain,
                                                      const Parameter& offset) {
  check_norm(x, gain, offset);
  check_activation(delta, "delta", {x.size(0), x.size(1)});
  check_same_device(x, {{"delta", &delta}, {"scale", &scale}});
  if (scale.defined()) {
    check_tensor(scale, "scale", at::kFloat, {-1});
    GATO_CHECK(scale.size(0) > 0 ? x.size(0) % scale.size(0) == 0 : x.size(0) == 0, "x has ", x.size(0),
               " rows, which ", scale.size(0), " factors do not divide");
  }
  const variable_list results =
      ResidualLayerNormFunction::apply(x, optional_tensor(delta), graph_anchor({&gain, &offset}),
                                       optional_tensor(scale), gain, offset, delta.scalar_type());
  return {results[1], results[0]};
}

}  // namespace gato::kernels
