#include "kernels/cpu/cross_entropy.h"

#include <cmath>
#include <limits>

#include "kernels/cpu/vector.h"

namespace gato::kernels::cpu {

GATO_MULTIVERSION float log_sum_exp(const float* logits, int64_t n) {
  const Floats lowest = broadcast(-std::numeric_limits<float>::infinity());
  Floats tops = lowest;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) tops = max(load(logits + i), tops);
  const Floats tail = i < n ? load_partial(logits + i, n - i, -std::numeric_limits<float>::infinity()) : lowest;
  const float top = max(max(tail, tops));
  Floats total = exp(tail - top);
  for (i = 0; i + kLanes <= n; i += kLanes) total += exp(load(logits + i) - top);
  return top + std::log(sum(total));
}

GATO_MULTIVERSION void softmax_times(float* logits, int64_t n, float log_sum, float weight) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(logits + i, exp(load(logits + i) - log_sum) * weight);
  if (i < n) store_partial(logits + i, exp(load_partial(logits + i, n - i, 0) - log_sum) * weight, n - i);
}

}  // namespace gato::kernels::cpu
