#include "kernels/checks.h"

#include "gato/core/error.h"
#include "kernels/device_ops.h"

namespace gato::kernels {
namespace {

std::string describe_sizes(std::initializer_list<int64_t> sizes) {
  std::vector<std::string> parts;
  for (const int64_t size : sizes) parts.push_back(size < 0 ? "any" : cat(size));
  return "[" + join(parts, ", ") + "]";
}

bool has_sizes(const at::Tensor& x, std::initializer_list<int64_t> sizes) {
  if (x.dim() != static_cast<int64_t>(sizes.size())) return false;
  int64_t i = 0;
  for (const int64_t size : sizes) {
    if (size >= 0 && x.size(i) != size) return false;
    ++i;
  }
  return true;
}

}  // namespace

void check_tensor(const at::Tensor& x, const char* name, at::ScalarType dtype, std::initializer_list<int64_t> sizes) {
  GATO_CHECK(x.defined(), name, " is undefined");
  GATO_CHECK(x.is_cpu() || device_ops(x) != nullptr, name, " is on ", x.device().str(),
             ", for which no operations are loaded (kernels::open_device)");
  GATO_CHECK(x.scalar_type() == dtype, name, " must be ", c10::toString(dtype), ", is ",
             c10::toString(x.scalar_type()));
  GATO_CHECK(has_sizes(x, sizes), name, " must have sizes ", describe_sizes(sizes), ", has ", x.sizes());
  GATO_CHECK(x.is_contiguous(), name, " must be dense, has strides ", x.strides());
}

void check_same_device(const at::Tensor& x, std::initializer_list<std::pair<const char*, const at::Tensor*>> others) {
  for (const auto& [name, other] : others) {
    GATO_CHECK(!other->defined() || other->device() == x.device(), name, " is on ", other->device().str(),
               ", other arguments are on ", x.device().str());
  }
}

void check_activation(const at::Tensor& x, const char* name, std::initializer_list<int64_t> sizes) {
  const bool bf16 = x.defined() && x.scalar_type() == at::kBFloat16;
  check_tensor(x, name, bf16 ? at::kBFloat16 : at::kFloat, sizes);
}

void check_parameter(const Parameter& x, const char* name, std::initializer_list<int64_t> sizes) {
  check_tensor(x.value, name, at::kFloat, sizes);
  GATO_CHECK(!x.value.requires_grad(), name, " must not require grad: its gradient is added to the given view");
  if (x.gradient.defined()) check_tensor(x.gradient, name, at::kFloat, sizes);
  if (x.compute.defined()) check_tensor(x.compute, name, at::kBFloat16, sizes);
  check_same_device(x.value, {{name, &x.gradient}, {name, &x.compute}});
}

}  // namespace gato::kernels
