#include "kernels/cpu/optimizer.h"

#include <cmath>

#include "kernels/cpu/vector.h"

namespace gato::kernels::cpu {
namespace {

GATO_INLINE void adamw_update_body(const AdamWFactors& factors, float* values, const float* gradients, float* first,
                                   float* second, Bf16* copy, int64_t n) {
  const AdamWFactors f = factors;
  for (int64_t i = 0; i < n; ++i) {
    const float g = gradients[i] * f.grad_scale;
    const float m = f.beta_1 * first[i] + (1 - f.beta_1) * g;
    const float v = f.beta_2 * second[i] + (1 - f.beta_2) * g * g;
    first[i] = m;
    second[i] = v;
    values[i] = values[i] * f.keep - f.step_size * m / (std::sqrt(v) * f.inverse_correction + f.epsilon);
  }
  if (copy == nullptr) return;
  // The values of a block are still in the nearest cache.
  for_vectors(
      n, [&](int64_t i, int64_t lanes)
             __attribute__((always_inline)) { put(copy + i, get(values + i, lanes), lanes); });
}

GATO_INLINE double square_sum_body(const float* x, int64_t n) {
  constexpr int64_t kSums = 16;
  double sums[kSums] = {};
  int64_t i = 0;
  for (; i + kSums <= n; i += kSums) {
    for (int64_t k = 0; k < kSums; ++k) {
      const double value = static_cast<double>(x[i + k]);
      sums[k] += value * value;
    }
  }
  double total = 0;
  for (; i < n; ++i) total += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  for (const double part : sums) total += part;
  return total;
}

}  // namespace

GATO_DISPATCH(void, adamw_update,
              (const AdamWFactors& factors, float* values, const float* gradients, float* first, float* second,
               Bf16* copy, int64_t n),
              (factors, values, gradients, first, second, copy, n))
GATO_DISPATCH(double, square_sum, (const float* x, int64_t n), (x, n))

}  // namespace gato::kernels::cpu
