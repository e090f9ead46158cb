#include "kernels/cpu/cross_entropy.h"

#include <cmath>
#include <limits>

#include "kernels/cpu/vector.h"

namespace gato::kernels::cpu {
namespace {

template <class T>
GATO_INLINE float log_sum_exp_body(const T* logits, int64_t n) {
  constexpr float kLowest = -std::numeric_limits<float>::infinity();
  const Floats lowest = broadcast(kLowest);
  Floats tops = lowest;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) tops = max(load(logits + i), tops);
  const Floats tail = i < n ? load_partial(logits + i, n - i, kLowest) : lowest;
  const float top = max(max(tail, tops));
  Floats total = exp(tail - top);
  for (i = 0; i + kLanes <= n; i += kLanes) total += exp(load(logits + i) - top);
  return top + std::log(sum(total));
}

template <class T>
GATO_INLINE void softmax_times_body(T* logits, int64_t n, float log_sum, float weight) {
  for_vectors(
      n, [&](int64_t i, int64_t lanes) __attribute__((always_inline)) {
        put(logits + i, exp(get(logits + i, lanes) - log_sum) * weight, lanes);
      });
}

}  // namespace

GATO_DISPATCH(float, log_sum_exp, (const float* logits, int64_t n), (logits, n))
GATO_DISPATCH(float, log_sum_exp, (const Bf16* logits, int64_t n), (logits, n))
GATO_DISPATCH(void, softmax_times, (float* logits, int64_t n, float log_sum, float weight),
              (logits, n, log_sum, weight))
GATO_DISPATCH(void, softmax_times, (Bf16 * logits, int64_t n, float log_sum, float weight),
              (logits, n, log_sum, weight))

}  // namespace gato::kernels::cpu
