#pragma once
#include "gato/kernels/parameter.h"

namespace gato::kernels {

/// x weight^T + bias: `x` [N, I] fp32 or bf16, `weight` [O, I], `bias` [O] or undefined; returns [N, O] of x's type.
/// The weight's gradient of one call is rounded to bf16 once when `x` is bf16, then added to the fp32 view. Throws
/// ContractError for other shapes, dtypes or devices, and for bf16 without weight.compute.
[[nodiscard]] at::Tensor linear(const at::Tensor& x, const Parameter& weight, const Parameter& bias = {});

/// Which library computes matrix products.
enum class MatmulRoute {
  kAuto,    ///< oneDNN where it is the faster one (AMD processors with AVX-512), else LibTorch's own.
  kBlas,    ///< at::mm in fp32, to which bf16 is converted.
  kOneDnn,  ///< at::native::mkldnn_matmul. bf16 takes it with kAuto too, wherever it works.
};
/// Sets the route for the whole process; not while another thread computes.
void set_matmul_route(MatmulRoute route);
[[nodiscard]] MatmulRoute matmul_route();

/// out = a b + beta out, `a` [N, K], `b` [K, M], either possibly transposed views, `out` [N, M] dense. `beta` is 0
/// or 1. All fp32; or `a` and `b` bf16 and `out` bf16 or fp32, with sums in fp32 (an fp32 `out` receives the product
/// rounded to bf16 where oneDNN computes it).
void matmul_into(const at::Tensor& a, const at::Tensor& b, const at::Tensor& out, float beta);

}  // namespace gato::kernels
