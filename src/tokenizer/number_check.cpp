#include <algorithm>
#include <array>
#include <bit>
#include <mutex>
#include <span>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/core/threads.h"
#include "gato/tokenizer/numbers.h"

namespace gato::tokenizer {
namespace {

constexpr uint64_t kAllFloats = uint64_t{1} << 32;
constexpr size_t kBlock = 1024;
constexpr uint64_t kBlocksPerTask = 1024;

/// Whether `bin` is the one that the threshold table gives for `value`.
bool fits_table(std::span<const float, kNumThresholds> table, float value, int32_t bin) {
  const auto i = static_cast<size_t>(bin);
  return (bin == 0 || value >= table[i - 1]) && (bin == kNumBins - 1 || value < table[i]);
}

std::string describe(uint32_t bits, int32_t fast, bool in_table, int32_t formula) {
  return cat("float with bits ", bits, " (", std::bit_cast<float>(bits), "): fast path gives ", fast,
             in_table ? ", as the table does" : ", the table another bin", ", the formula ", formula);
}

struct Comparer {
  std::span<const float, kNumThresholds> table = observation_thresholds();
  std::array<float, kBlock> values{};
  std::array<int32_t, kBlock> fast{};
  NumberCheck found;

  void add_mismatch(uint32_t bits, int32_t bin, bool in_table, int32_t formula) {
    if (found.mismatches++ == 0) found.first_mismatch = describe(bits, bin, in_table, formula);
  }

  void compare_nan(uint32_t bits, float value) {
    int32_t id = 0;
    const int32_t single = observation_bin(value);
    const bool reported = observation_ids({&value, 1}, 0, {&id, 1}) == 0;
    const int32_t formula = observation_bin_by_formula(value);
    if (single != -1 || !reported || formula != -1) add_mismatch(bits, single, reported, formula);
  }

  /// Compares the patterns first, first + stride, ...: `count` <= kBlock of them.
  void compare(uint64_t first, uint64_t stride, size_t count) {
    size_t numbers = 0;
    for (size_t i = 0; i < count; ++i) {
      const auto bits = static_cast<uint32_t>(first + i * stride);
      const auto value = std::bit_cast<float>(bits);
      if (value != value) {
        compare_nan(bits, value);
      } else {
        values[numbers++] = value;
      }
    }
    observation_ids(std::span(values).first(numbers), 0, std::span(fast).first(numbers));
    for (size_t i = 0; i < numbers; ++i) {
      const int32_t formula = observation_bin_by_formula(values[i]);
      const bool in_table = fits_table(table, values[i], fast[i]);
      if (formula != fast[i] || !in_table) add_mismatch(std::bit_cast<uint32_t>(values[i]), fast[i], in_table, formula);
    }
    found.checked += count;
  }
};

}  // namespace

NumberCheck check_all_floats(const std::function<void(double)>& progress, uint32_t stride) {
  GATO_CHECK(stride >= 1, "stride ", stride);
  const uint64_t patterns = (kAllFloats + stride - 1) / stride;
  const uint64_t per_task = kBlock * kBlocksPerTask;
  const auto tasks = static_cast<int64_t>((patterns + per_task - 1) / per_task);
  std::vector<NumberCheck> found(static_cast<size_t>(tasks));
  std::mutex mutex;
  int64_t done = 0;
  parallel_for(tasks, [&](int64_t task) {
    Comparer comparer;
    const uint64_t begin = static_cast<uint64_t>(task) * per_task, end = std::min(begin + per_task, patterns);
    for (uint64_t at = begin; at < end; at += kBlock) {
      comparer.compare(at * stride, stride, static_cast<size_t>(std::min<uint64_t>(kBlock, end - at)));
    }
    found[static_cast<size_t>(task)] = std::move(comparer.found);
    if (!progress) return;
    const std::lock_guard lock(mutex);
    progress(static_cast<double>(++done) / static_cast<double>(tasks));
  });
  NumberCheck total;
  for (NumberCheck& part : found) {
    total.checked += part.checked;
    total.mismatches += part.mismatches;
    if (total.first_mismatch.empty()) total.first_mismatch = std::move(part.first_mismatch);
  }
  return total;
}

}  // namespace gato::tokenizer
