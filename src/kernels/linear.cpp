#include "gato/kernels/linear.h"

#include <ATen/ops/empty.h>

#include "kernels/checks.h"
#include "kernels/column_sums.h"
#include "kernels/cpu/rows.h"
#include "kernels/graph.h"
#include "kernels/parallel.h"

namespace gato::kernels {
namespace {

struct LinearFunction : torch::autograd::Function<LinearFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const std::optional<at::Tensor>& /*anchor*/,
                            const Parameter& weight, const Parameter& bias) {
    context->save_for_backward({x});
    save_parameter(context, "weight", weight);
    save_parameter(context, "bias", bias);
    at::Tensor y = at::empty({x.size(0), weight.value.size(0)}, x.options());
    if (bias.defined()) {
      const auto* from = bias.value.const_data_ptr<float>();
      auto* to = y.mutable_data_ptr<float>();
      const int64_t width = y.size(1);
      for_ranges(y.size(0), width / 4,
                 [&](int64_t begin, int64_t end) { cpu::fill_rows(from, width, to, begin, end); });
    }
    matmul_into(x, weight.value.t(), y, bias.defined() ? 1.0f : 0.0f);
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const at::Tensor x = context->get_saved_variables()[0];
    const Parameter weight = saved_parameter(context, "weight");
    const Parameter bias = saved_parameter(context, "bias");
    const at::Tensor dy = gradients[0].contiguous();
    at::Tensor dx;
    if (context->needs_input_grad(0)) {
      dx = at::empty(x.sizes(), x.options());
      matmul_into(dy, weight.value, dx, 0);
    }
    if (weight.gradient.defined()) matmul_into(dy.t(), x, weight.gradient, 1);
    if (bias.gradient.defined()) add_column_sums(dy, bias.gradient);
    return {dx, {}, {}, {}};
  }
};

}  // namespace

at::Tensor linear(const at::Tensor& x, const Parameter& weight, const Parameter& bias) {
  check_parameter(weight, "weight", {-1, -1});
  check_tensor(x, "x", at::kFloat, {-1, weight.value.size(1)});
  if (bias.defined()) check_parameter(bias, "bias", {weight.value.size(0)});
  return LinearFunction::apply(x, graph_anchor({&weight, &bias}), weight, bias);
}

}  // namespace gato::kernels
