#pragma once
#include "gato/kernels/parameter.h"

namespace gato::kernels {

/// x weight^T + bias: `x` [N, I], `weight` [O, I], `bias` [O] or undefined; returns [N, O]. Throws ContractError for
/// other shapes, dtypes or devices.
[[nodiscard]] at::Tensor linear(const at::Tensor& x, const Parameter& weight, const Parameter& bias = {});

/// Which library computes fp32 matrix products.
enum class MatmulRoute {
  kAuto,    ///< oneDNN where it is the faster one (AMD processors with AVX-512), else LibTorch's own.
  kBlas,    ///< at::mm.
  kOneDnn,  ///< at::native::mkldnn_matmul.
};
/// Sets the route for the whole process; not while another thread computes.
void set_matmul_route(MatmulRoute route);
[[nodiscard]] MatmulRoute matmul_route();

/// out = a b + beta out, `a` [N, K], `b` [K, M], either possibly transposed views, `out` [N, M] dense. `beta` is 0
/// or 1.
void matmul_into(const at::Tensor& a, const at::Tensor& b, const at::Tensor& out, float beta);

}  // namespace gato::kernels
