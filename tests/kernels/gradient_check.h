#pragma once
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <string>
#include <vector>

#include "gato/kernels/parameter.h"
#include "support/tensor_compare.h"

namespace gato::kernels::testing {

using gato::testing::all_close;
using gato::testing::random_integers;
using gato::testing::random_normal;
using gato::testing::random_sequence_starts;
using gato::testing::same_bits;
using gato::testing::Tolerance;
using gato::testing::tolerance_of;

/// A parameter with the value `x` and a gradient that starts at zero.
inline Parameter make_parameter(const at::Tensor& x) {
  return {x.clone().detach(), at::zeros(x.sizes(), x.options().requires_grad(false))};
}

inline at::Tensor leaf(const at::Tensor& x) { return x.clone().detach().set_requires_grad(true); }

/// Runs backward of sum(y * weights), `weights` random.
inline void backward_from(const at::Tensor& y, const at::Tensor& weights) {
  if (y.numel() == 0 || !y.requires_grad()) return;
  torch::autograd::backward({y}, {weights.to(y.scalar_type())});
}

/// Compares the derivative of `f` (a fp32 scalar in double) at `x` along a random direction with <gradient, direction>.
inline ::testing::AssertionResult matches_finite_difference(const std::function<double(const at::Tensor&)>& f,
                                                            const at::Tensor& x, const at::Tensor& gradient,
                                                            uint64_t seed, double step = 1e-2,
                                                            double tolerance = 2e-3) {
  const at::Tensor direction = random_normal(x.sizes(), seed);
  const double difference = (f(x + direction * step) - f(x - direction * step)) / (2 * step);
  const double expected = (gradient.to(at::kDouble) * direction.to(at::kDouble)).sum().item<double>();
  const double scale = 1 + std::abs(expected);
  if (std::abs(difference - expected) <= tolerance * scale) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "finite difference " << difference << ", gradient gives " << expected
                                       << " (seed " << seed << ")";
}

inline double inner_product(const at::Tensor& a, const at::Tensor& b) {
  return (a.detach().to(at::kDouble) * b.detach().to(at::kDouble)).sum().item<double>();
}

}  // namespace gato::kernels::testing
