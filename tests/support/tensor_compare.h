#pragma once
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "gato/core/random.h"
#include "gato/core/text.h"
#include "support/one_thread.h"

/// Comparing tensors in tests: one tolerance table, one comparator.
namespace gato::testing {

struct Tolerance {
  double absolute = 0, relative = 0;
  /// For results that sum many terms, whose rounding errors grow: say at the call why `factor` is needed.
  [[nodiscard]] Tolerance times(double factor) const { return {absolute * factor, relative * factor}; }
};

/// What a correct implementation in `dtype` reaches against a reference in fp64.
inline Tolerance tolerance_of(at::ScalarType dtype) {
  switch (dtype) {
    case at::kDouble:
      return {1e-10, 1e-9};
    case at::kFloat:
      return {2e-6, 1e-5};
    case at::kHalf:
      return {1e-3, 2e-3};
    case at::kBFloat16:
      return {8e-3, 1.6e-2};
    default:
      return {0, 0};
  }
}

/// Passes only when |actual - expected| <= absolute + relative |expected| for every element, so that NaN fails. Reports
/// how many differ, and where and how the worst one does.
inline ::testing::AssertionResult all_close(const at::Tensor& actual, const at::Tensor& expected, Tolerance tolerance,
                                            uint64_t seed = 0) {
  if (!actual.defined() || !expected.defined()) {
    return ::testing::AssertionFailure() << (actual.defined() ? "the expected" : "the actual")
                                         << " tensor is undefined";
  }
  if (actual.sizes() != expected.sizes()) {
    return ::testing::AssertionFailure() << "sizes " << cat(actual.sizes()) << " instead of " << cat(expected.sizes());
  }
  const at::Tensor a = actual.detach().to(at::kDouble).contiguous().view(-1);
  const at::Tensor e = expected.detach().to(at::kDouble).contiguous().view(-1);
  const auto* x = a.const_data_ptr<double>();
  const auto* y = e.const_data_ptr<double>();
  int64_t failures = 0, worst = -1;
  double worst_excess = -1;
  for (int64_t i = 0; i < a.numel(); ++i) {
    const double difference = std::abs(x[i] - y[i]);
    const double allowed = tolerance.absolute + tolerance.relative * std::abs(y[i]);
    if (difference <= allowed) continue;
    ++failures;
    const double excess = std::isnan(difference) ? INFINITY : difference / std::max(allowed, 1e-300);
    if (excess > worst_excess) {
      worst_excess = excess;
      worst = i;
    }
  }
  if (failures == 0) return ::testing::AssertionSuccess();
  std::string index;
  int64_t rest = worst;
  for (int64_t d = expected.dim() - 1; d >= 0; --d) {
    index = cat(rest % expected.size(d), index.empty() ? "" : ", ") + index;
    rest /= expected.size(d);
  }
  return ::testing::AssertionFailure() << failures << " of " << a.numel() << " elements differ; worst at [" << index
                                       << "]: " << x[worst] << " instead of " << y[worst] << " (seed " << seed << ")";
}

/// Standard normal numbers that depend on (seed, sizes) alone.
inline at::Tensor random_normal(at::IntArrayRef sizes, uint64_t seed, at::ScalarType dtype = at::kFloat) {
  const at::Tensor x = at::empty(sizes, at::kDouble);
  Rng rng(mix_seed(seed, {hash_name("random_normal")}));
  for (int64_t i = 0; i < x.numel(); ++i) x.mutable_data_ptr<double>()[i] = rng.normal();
  return x.to(dtype);
}

/// Integers in [low, high).
inline at::Tensor random_integers(at::IntArrayRef sizes, int64_t low, int64_t high, uint64_t seed,
                                  at::ScalarType dtype = at::kLong) {
  const at::Tensor x = at::empty(sizes, at::kLong);
  Rng rng(mix_seed(seed, {hash_name("random_integers")}));
  for (int64_t i = 0; i < x.numel(); ++i) x.mutable_data_ptr<int64_t>()[i] = low + rng.below(high - low);
  return x.to(dtype);
}

/// int32 [rows, tokens] of sequence starts, sequences of random length in [1, longest].
inline at::Tensor random_sequence_starts(int64_t rows, int64_t tokens, int64_t longest, uint64_t seed) {
  const at::Tensor starts = at::empty({rows, tokens}, at::kInt);
  Rng rng(mix_seed(seed, {hash_name("starts")}));
  for (int64_t row = 0; row < rows; ++row) {
    int64_t begin = 0, end = 0;
    for (int64_t t = 0; t < tokens; ++t) {
      if (t == end) {
        begin = t;
        end = t + 1 + rng.below(longest);
      }
      starts.mutable_data_ptr<int32_t>()[row * tokens + t] = static_cast<int32_t>(begin);
    }
  }
  return starts;
}

/// The same bits everywhere, NaN included.
inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  const at::Tensor x = a.detach().contiguous();
  const at::Tensor y = b.detach().contiguous();
  return x.sizes() == y.sizes() && x.scalar_type() == y.scalar_type() &&
         std::memcmp(x.const_data_ptr(), y.const_data_ptr(), x.nbytes()) == 0;
}

}  // namespace gato::testing
