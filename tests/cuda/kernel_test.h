#pragma once
// What the tests of single kernels share: buffers of any element type, seeded values, and the comparator.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "cuda_emulation/language.h"
#include "cuda_emulation/test_device.h"
#include "gato/core/random.h"
#include "gato/core/text.h"
#include "kernels/cuda/types.h"

namespace gato::kernel_tests {

using cuda_emulation::Buffer;
using cuda_emulation::Options;
using cuda_emulation::TestDevice;
using kernels::cuda::Element;

/// `value` rounded to the element type.
inline float rounded(Element element, float value) {
  switch (element) {
    case Element::kBFloat16:
      return cuda_emulation::widen(cuda_emulation::narrow_bfloat16(value));
    case Element::kFloat16:
      return cuda_emulation::widen(cuda_emulation::narrow_float16(value));
    case Element::kFloat32:
      break;
  }
  return value;
}
inline std::vector<float> rounded(Element element, std::vector<float> values) {
  for (float& value : values) value = rounded(element, value);
  return values;
}

/// `count` standard normal numbers times `scale`, the same for the same seed.
inline std::vector<float> normal_values(int64_t count, uint64_t seed, double scale = 1) {
  Rng rng(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = static_cast<float>(scale * rng.normal());
  return values;
}

/// Numbers in [0, 1).
inline std::vector<float> uniform_values(int64_t count, uint64_t seed) {
  Rng rng(seed);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = static_cast<float>(rng.uniform());
  return values;
}

inline std::vector<double> widened(const std::vector<float>& values) { return {values.begin(), values.end()}; }

/// Device memory of floats held in an element type. `offset` elements in front make it misaligned.
class Typed {
 public:
  /// Holds `values`, rounded.
  Typed(TestDevice& device, Element element, const std::string& name, const std::vector<float>& values,
        size_t offset = 0)
      : Typed(device, element, name, values.size(), offset) {
    upload(values);
  }
  /// Not written yet.
  Typed(TestDevice& device, Element element, const std::string& name, size_t size, size_t offset = 0)
      : element_(element), offset_(offset), size_(size) {
    if (element == Element::kFloat32) {
      wide_.emplace(device.buffer<float>(name, size + offset));
    } else {
      narrow_.emplace(device.buffer<uint16_t>(name, size + offset));
    }
  }

  [[nodiscard]] void* data() const {
    return wide_ ? static_cast<void*>(wide_->data() + offset_) : static_cast<void*>(narrow_->data() + offset_);
  }
  [[nodiscard]] float* floats() const { return wide_->data() + offset_; }

  [[nodiscard]] std::vector<float> download() const {
    std::vector<float> values;
    if (wide_) {
      values = wide_->download();
    } else {
      for (const uint16_t bits : narrow_->download()) {
        values.push_back(element_ == Element::kBFloat16 ? cuda_emulation::widen(cuda_emulation::BFloat16{bits})
                                                        : cuda_emulation::widen(cuda_emulation::Float16{bits}));
      }
    }
    return {values.begin() + static_cast<int64_t>(offset_), values.end()};
  }

 private:
  void upload(const std::vector<float>& values) {
    if (wide_) {
      std::vector<float> all(offset_, 0.0f);
      all.insert(all.end(), values.begin(), values.end());
      wide_->upload(all);
      return;
    }
    std::vector<uint16_t> all(offset_, 0);
    for (const float value : values) {
      all.push_back(element_ == Element::kBFloat16 ? cuda_emulation::narrow_bfloat16(value).bits
                                                   : cuda_emulation::narrow_float16(value).bits);
    }
    narrow_->upload(all);
  }

  Element element_;
  size_t offset_, size_;
  std::optional<Buffer<float>> wide_;
  std::optional<Buffer<uint16_t>> narrow_;
};

struct Tolerance {
  double absolute = 0, relative = 0;
  /// For sums of many terms, whose rounding errors grow.
  [[nodiscard]] Tolerance times(double factor) const { return {absolute * factor, relative * factor}; }
};

/// What a correct kernel reaches against fp64: the table of tests/support/tensor_compare.h.
inline Tolerance tolerance_of(Element element) {
  switch (element) {
    case Element::kFloat32:
      return {2e-6, 1e-5};
    case Element::kFloat16:
      return {1e-3, 2e-3};
    case Element::kBFloat16:
      return {8e-3, 1.6e-2};
  }
  return {};
}

/// Passes only when |actual - expected| <= absolute + relative |expected| for every element, so that NaN fails.
inline testing::AssertionResult all_close(const std::vector<float>& actual, const std::vector<double>& expected,
                                          Tolerance tolerance) {
  if (actual.size() != expected.size()) {
    return testing::AssertionFailure() << actual.size() << " values instead of " << expected.size();
  }
  size_t failures = 0, worst = 0;
  double worst_excess = -1;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double difference = std::abs(static_cast<double>(actual[i]) - expected[i]);
    const double allowed = tolerance.absolute + tolerance.relative * std::abs(expected[i]);
    if (difference <= allowed) continue;
    ++failures;
    const double excess = std::isnan(difference) ? INFINITY : difference - allowed;
    if (excess > worst_excess) {
      worst_excess = excess;
      worst = i;
    }
  }
  if (failures == 0) return testing::AssertionSuccess();
  return testing::AssertionFailure() << failures << " of " << actual.size() << " values differ; the worst at " << worst
                                     << ": " << actual[worst] << " instead of " << expected[worst];
}

/// The bits of several results, to be compared exactly (NaN too).
inline std::vector<uint32_t> bits_of(const std::vector<std::vector<float>>& results) {
  std::vector<uint32_t> bits;
  for (const std::vector<float>& result : results) {
    for (const float value : result) bits.push_back(std::bit_cast<uint32_t>(value));
  }
  return bits;
}

/// Runs `run(device)`, which returns results, with blocks, warps and lanes in order and in three shuffled orders: same
/// bits, no faults.
template <class Run>
void expect_same_bits_in_any_order(const Run& run) {
  std::vector<uint32_t> expected;
  for (uint32_t seed = 0; seed < 4; ++seed) {
    Options options;
    options.schedule_seed = seed;
    TestDevice device(options);
    const std::vector<uint32_t> bits = bits_of(run(device));
    if (seed == 0) {
      expected = bits;
      ASSERT_FALSE(expected.empty());
    } else {
      EXPECT_EQ(bits, expected) << "schedule " << seed;
    }
  }
}

}  // namespace gato::kernel_tests
