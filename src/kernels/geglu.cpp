#include "gato/kernels/geglu.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include "gato/core/error.h"
#include "gato/core/profile.h"
#include "kernels/checks.h"
#include "kernels/cpu/geglu.h"
#include "kernels/data.h"
#include "kernels/device_ops.h"
#include "kernels/graph.h"
#include "kernels/parallel.h"

namespace gato::kernels {
namespace {

struct GegluFunction : torch::autograd::Function<GegluFunction> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x) {
    const profile::Scope scope("geglu forward");
    const int64_t half = x.size(1) / 2;
    const at::Tensor y = at::empty({x.size(0), half}, x.options());
    context->save_for_backward({x});
    if (const DeviceOps* ops = device_ops(x)) {
      ops->geglu_forward(x, y);
      return y;
    }
    with_type_of(x, [&]<class T>(T) {
      const T* from = data<T>(x);
      T* to = mutable_data<T>(y);
      for_ranges(x.size(0), 4 * half,
                 [&](int64_t begin, int64_t end) { cpu::geglu_forward(from, to, half, begin, end); });
    });
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const profile::Scope scope("geglu backward");
    const at::Tensor x = context->get_saved_variables()[0];
    const at::Tensor dy = gradients[0].contiguous();
    const at::Tensor dx = at::empty_like(x);
    const int64_t half = dy.size(1);
    if (const DeviceOps* ops = device_ops(x)) {
      ops->geglu_backward(x, dy, dx);
      return {dx};
    }
    with_type_of(x, [&]<class T>(T) {
      const T* from = data<T>(x);
      const T* up = data<T>(dy);
      T* to = mutable_data<T>(dx);
      for_ranges(x.size(0), 8 * half,
                 [&](int64_t begin, int64_t end) { cpu::geglu_backward(from, up, to, half, begin, end); });
    });
    return {dx};
  }
};

}  // namespace

at::Tensor geglu(const at::Tensor& x) {
  check_activation(x, "x", {-1, -1});
  GATO_CHECK(x.size(1) % 2 == 0, "x must have an even number of columns, has ", x.size(1));
  return GegluFunction::apply(x);
}

}  // namespace gato::kernels
