#include <ATen/ATen.h>
#include <ATen/Context.h>

#include <atomic>

#include "gato/core/error.h"
#include "gato/kernels/linear.h"
#include "kernels/cpu/rows.h"
#include "kernels/data.h"
#include "kernels/parallel.h"

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

/// Whether oneDNN computes bf16 products: it needs AVX-512 with bytes and words; with AVX-512-BF16 they are fast.
bool has_one_dnn_bf16() {
#if defined(__x86_64__)
  return at::hasMKLDNN() && __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
         __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512dq") != 0;
#else
  return false;
#endif
}

bool use_one_dnn_bf16() {
  static const bool available = has_one_dnn_bf16();
  return available && route_setting().load(std::memory_order_relaxed) != MatmulRoute::kBlas;
}

/// to += from, bf16 onto fp32, both dense.
void add_bf16(const at::Tensor& from, const at::Tensor& to) {
  const auto* x = data<cpu::Bf16>(from);
  auto* y = mutable_data<float>(to);
  for_ranges(to.numel(), 1, [&](int64_t begin, int64_t end) { cpu::add(x + begin, y + begin, end - begin); });
}

void multiply_fp32(const at::Tensor& a, const at::Tensor& b, at::Tensor out, float beta) {
  if (use_one_dnn(a.size(0) * a.size(1) * b.size(1))) {
    at::native::mkldnn_matmul(a, b, out, beta, 1);
  } else if (beta == 0) {
    at::mm_out(out, a, b);
  } else {
    out.addmm_(a, b);
  }
}

void multiply_bf16(const at::Tensor& a, const at::Tensor& b, at::Tensor out, float beta) {
  const bool wide = out.scalar_type() == at::kFloat;
  if (!use_one_dnn_bf16()) {
    const at::Tensor result = wide ? out : beta == 0 ? at::empty(out.sizes(), at::kFloat) : out.to(at::kFloat);
    multiply_fp32(a.to(at::kFloat), b.to(at::kFloat), result, beta);
    if (!wide) out.copy_(result);
  } else if (!wide) {
    at::native::mkldnn_matmul(a, b, out, beta, 1);
  } else {
    const at::Tensor product = at::empty(out.sizes(), a.options());
    at::native::mkldnn_matmul(a, b, product, 0, 1);
    if (beta == 0) out.zero_();
    add_bf16(product, out);
  }
}

/// By cuBLAS, through LibTorch. bf16 products may be added to fp32 without rounding them first.
void multiply_on_device(const at::Tensor& a, const at::Tensor& b, at::Tensor out, float beta) {
  const bool widens = out.scalar_type() != a.scalar_type();
  if (beta == 0) {
    widens ? at::mm_out(out, a, b, out.scalar_type()) : at::mm_out(out, a, b);
  } else {
    widens ? at::addmm_out(out, out, a, b, out.scalar_type()) : at::addmm_out(out, out, a, b);
  }
}

void check_types(const at::Tensor& a, const at::Tensor& b, const at::Tensor& out) {
  const auto type = a.scalar_type();
  GATO_CHECK((type == at::kFloat || type == at::kBFloat16) && b.scalar_type() == type &&
                 (out.scalar_type() == type || out.scalar_type() == at::kFloat),
             "types do not fit: ", type, " x ", b.scalar_type(), " into ", out.scalar_type());
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
  check_types(a, b, out);
  if (out.numel() == 0) return;
  at::Tensor target = out;
  if (a.size(1) == 0) {
    if (beta == 0) target.zero_();
  } else if (!a.is_cpu()) {
    multiply_on_device(a, b, target, beta);
  } else if (a.scalar_type() == at::kBFloat16) {
    multiply_bf16(a, b, target, beta);
  } else {
    multiply_fp32(a, b, target, beta);
  }
}

}  // namespace gato::kernels
