#include <ATen/ATen.h>
#include <ATen/Context.h>

#include <atomic>

#include "gato/core/error.h"
#include "gato/kernels/linear.h"

namespace at::native {
// Exported by libtorch_cpu, in no installed header.
void mkldnn_matmul(const at::Tensor& a, const at::Tensor& b, const at::Tensor& out, float beta, float alpha);
}  // namespace at::native

namespace gato::kernels {
namespace {

/// Products with fewer multiply-adds go to at::mm, which starts faster.
constexpr int64_t kSmallProduct = 1 << 20;

/// LibTorch's own library for fp32 products reaches half of what oneDNN does on AMD processors with AVX-512
/// (docs/benchmarks.md). A rule by processor and not a measurement, so that every run on a machine takes the same route
/// and gives the same bits.
bool prefers_one_dnn() {
#if defined(__x86_64__)
  return at::hasMKLDNN() && __builtin_cpu_is("amd") != 0 && __builtin_cpu_supports("avx512f") != 0;
#else
  return false;
#endif
}

std::atomic<MatmulRoute>& route_setting() {
  static std::atomic<MatmulRoute> route{MatmulRoute::kAuto};
  return route;
}

bool use_one_dnn(int64_t multiply_adds) {
  switch (route_setting().load(std::memory_order_relaxed)) {
    case MatmulRoute::kBlas:
      return false;
    case MatmulRoute::kOneDnn:
      return true;
    case MatmulRoute::kAuto:
      break;
  }
  static const bool preferred = prefers_one_dnn();
  return preferred && multiply_adds >= kSmallProduct;
}

}  // namespace

void set_matmul_route(MatmulRoute route) {
  GATO_CHECK(route != MatmulRoute::kOneDnn || at::hasMKLDNN(), "this LibTorch was built without oneDNN");
  route_setting().store(route);
}

MatmulRoute matmul_route() { return route_setting().load(); }

void matmul_into(const at::Tensor& a, const at::Tensor& b, const at::Tensor& out, float beta) {
  GATO_CHECK(a.dim() == 2 && b.dim() == 2 && out.dim() == 2 && a.size(1) == b.size(0) && out.size(0) == a.size(0) &&
                 out.size(1) == b.size(1),
             "sizes do not fit: ", a.sizes(), " x ", b.sizes(), " into ", out.sizes());
  GATO_CHECK(beta == 0 || beta == 1, "beta must be 0 or 1, is ", beta);
  if (out.numel() == 0) return;
  at::Tensor target = out;
  if (a.size(1) == 0) {
    if (beta == 0) target.zero_();
  } else if (use_one_dnn(a.size(0) * a.size(1) * b.size(1))) {
    at::native::mkldnn_matmul(a, b, target, beta, 1);
  } else if (beta == 0) {
    at::mm_out(target, a, b);
  } else {
    target.addmm_(a, b);
  }
}

}  // namespace gato::kernels
