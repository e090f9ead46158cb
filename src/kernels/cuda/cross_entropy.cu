#include "kernels/cuda/cross_entropy.h"

#include "kernels/cuda/arguments.h"
#include "kernels/cuda/block_reduce.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/vectors.h"

namespace gato::kernels::cuda {
namespace {

constexpr int kMostThreads = 512;

/// Beyond this many sigmas a Gaussian's density is below the rounding error of its peak.
constexpr float kReach = 6;

/// What a position should predict: ids [low, high], each with a share proportional to its density. Empty for a target
/// that is not in the vocabulary.
struct Wanted {
  int64_t target, low, high;
  float inverse_sigma;  ///< 0 with a hard target.

  [[nodiscard]] __device__ __forceinline__ float density(int64_t id) const {
    const float distance = static_cast<float>(id - target) * inverse_sigma;
    return expf(-0.5f * distance * distance);
  }
};

__device__ __forceinline__ Wanted wanted_at(const CrossEntropy& call, int64_t position) {
  const int64_t target = call.targets[position];
  if (target < 0 || target >= call.vocabulary) return {0, 0, -1, 0};
  const int64_t end = call.first_id + call.num_ids;
  if (!(call.sigma > 0) || target < call.first_id || target >= end) return {target, target, target, 0};
  const auto reach = static_cast<int64_t>(ceilf(kReach * call.sigma));
  const int64_t low = target - reach > call.first_id ? target - reach : call.first_id;
  const int64_t high = target + reach < end - 1 ? target + reach : end - 1;
  return {target, low, high, 1.0f / call.sigma};
}

/// Running sum of exp(x - top).
struct SumOfExponentials {
  float top = -INFINITY;
  float sum = 0;

  template <int kCount>
  __device__ __forceinline__ void add(const Floats<kCount>& x) {
    float highest = x.v[0];
#pragma unroll
    for (int k = 1; k < kCount; ++k) highest = fmaxf(highest, x.v[k]);
    if (highest > top) {
      sum *= expf(top - highest);
      top = highest;
    }
    const float shift = top == -INFINITY ? 0.0f : top;  // nothing but -inf yet: their exponentials are 0, not NaN
#pragma unroll
    for (int k = 0; k < kCount; ++k) sum += expf(x.v[k] - shift);
  }

  /// The sum relative to `new_top` >= top.
  [[nodiscard]] __device__ __forceinline__ float relative_to(float new_top) const {
    return top == -INFINITY ? sum : sum * expf(top - new_top);
  }
};

/// What the first pass over a position's logits finds.
struct Measured {
  float log_sum;   ///< log sum exp of the logits.
  float expected;  ///< The targets' mean logit.
  float density;   ///< Sum of the targets' densities.
};

template <class T>
__device__ __forceinline__ Measured measure(const T* row, int64_t size, const Wanted& wanted) {
  GATO_SHARED(float, scratch, 4 * kMaxWarps);
  SumOfExponentials own;
  for_elements<kFullVector<T>>(misalignment(row), size,
                               [&](int64_t i, auto count) { own.add(load_floats<decltype(count)::kValue>(row + i)); });
  float density = 0, weighted = 0;
  for (int64_t id = wanted.low + threadIdx.x; id <= wanted.high; id += blockDim.x) {
    const float d = wanted.density(id);
    density += d;
    weighted += d * to_float(row[id]);
  }
  const float top = block_reduce(own.top, scratch, Maximum{});
  const float sum = block_reduce(own.relative_to(top), scratch + kMaxWarps, Sum{});
  density = block_reduce(density, scratch + 2 * kMaxWarps, Sum{});
  weighted = block_reduce(weighted, scratch + 3 * kMaxWarps, Sum{});
  return {top + logf(sum), weighted / density, density};
}

/// A block per position.
template <class T>
__global__ void __launch_bounds__(kMostThreads) cross_entropy_kernel(CrossEntropy call) {
  const int64_t position = blockIdx.x;
  T* row = static_cast<T*>(call.logits) + position * call.stride;
  const Wanted wanted = wanted_at(call, position);
  const bool valid = wanted.low <= wanted.high;
  const float target_logit = valid && threadIdx.x == 0 ? to_float(row[wanted.target]) : 0.0f;
  const Measured measured = measure(row, call.vocabulary, wanted);
  if (threadIdx.x == 0) {
    call.loss[position] = valid ? measured.log_sum - measured.expected : NAN;
    call.nll[position] = valid ? measured.log_sum - target_logit : NAN;
  }
  if (!call.differentiate) return;
  const float scale = call.scale == nullptr ? 1.0f : *call.scale;
  const float factor = valid ? call.weights[position] * scale : NAN;
  const float share_factor = factor / measured.density;
  for_elements<kFullVector<T>>(misalignment(row), call.vocabulary, [&](int64_t first, auto count) {
    constexpr int kCount = decltype(count)::kValue;
    Floats<kCount> x = load_floats<kCount>(row + first);
#pragma unroll
    for (int k = 0; k < kCount; ++k) x.v[k] = expf(x.v[k] - measured.log_sum) * factor;
    if (first <= wanted.high && first + kCount > wanted.low) {
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        const int64_t id = first + k;
        if (id >= wanted.low && id <= wanted.high) x.v[k] -= share_factor * wanted.density(id);
      }
    }
    store_floats(row + first, x);
  });
}

}  // namespace

void cross_entropy(const CrossEntropy& call, Stream stream) {
  check_element(call.element, "cross_entropy");
  check_range(call.positions, 0, int64_t{1} << 31, "positions");
  check_range(call.vocabulary, 1, int64_t{1} << 31, "vocabulary");
  GATO_CHECK(call.stride >= call.vocabulary, "logits ", call.stride, " elements apart overlap: a position has ",
             call.vocabulary);
  GATO_CHECK(
      !(call.sigma > 0) || (call.first_id >= 0 && call.num_ids >= 0 && call.first_id + call.num_ids <= call.vocabulary),
      "soft targets over ids [", call.first_id, ", ", call.first_id + call.num_ids, ") of ", call.vocabulary);
  if (call.positions == 0) return;
  check_pointer(call.logits, element_bytes(call.element), "logits");
  check_pointer(call.targets, "targets");
  check_pointer(call.weights, "weights");
  check_optional(call.scale, "scale");
  check_pointer(call.loss, "loss");
  check_pointer(call.nll, "nll");
  const unsigned threads = call.vocabulary <= 2048 ? 128 : kMostThreads;
  launch({"cross_entropy", num_blocks(call.positions, 1), threads, 0, stream},
         call.element == Element::kBFloat16 ? cross_entropy_kernel<BFloat16> : cross_entropy_kernel<float>, call);
}

}  // namespace gato::kernels::cuda
