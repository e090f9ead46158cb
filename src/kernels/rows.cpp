#include "gato/kernels/rows.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/zeros.h>
#include <c10/core/GradMode.h>

#include "gato/core/error.h"
#include "kernels/checks.h"
#include "kernels/device_ops.h"

namespace gato::kernels {
namespace {

void check_arguments(const at::Tensor& x, const at::Tensor& positions) {
  check_activation(x, "x", {-1, -1});
  check_tensor(positions, "positions", at::kLong, {-1});
  check_same_device(x, {{"positions", &positions}});
  GATO_CHECK(!c10::GradMode::is_enabled() || !x.requires_grad(), "copies of rows have no gradients");
}

}  // namespace

at::Tensor gather_rows(const at::Tensor& x, const at::Tensor& positions) {
  check_arguments(x, positions);
  const DeviceOps* ops = device_ops(x);
  if (ops == nullptr) return at::index_select(x, 0, positions);
  at::Tensor y = at::empty({positions.size(0), x.size(1)}, x.options());
  ops->gather_rows(x, positions, y);
  return y;
}

at::Tensor spread_rows(const at::Tensor& x, const at::Tensor& positions, int64_t rows) {
  check_arguments(x, positions);
  GATO_CHECK(x.size(0) == positions.size(0) && rows >= 0, x.size(0), " rows for ", positions.size(0), " places of ",
             rows);
  if (const DeviceOps* ops = device_ops(x)) {
    at::Tensor y = at::empty({rows, x.size(1)}, x.options());
    ops->spread_rows(x, positions, y);
    return y;
  }
  return at::zeros({rows, x.size(1)}, x.options()).index_copy_(0, positions, x);
}

}  // namespace gato::kernels
