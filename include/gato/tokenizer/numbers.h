#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "gato/tokenizer/vocabulary.h"

/// Continuous values to bins and back. Every conversion goes through a table of 1023 fp32 thresholds computed once in
/// double precision, so every path and machine agrees on every float.
namespace gato::tokenizer {

constexpr double kMuLawMu = 100;  ///< Paper section 2.1 and appendix B.
constexpr double kMuLawM = 256;
constexpr int64_t kNumThresholds = kNumBins - 1;

/// F(x) = sgn(x) ln(|x| mu + 1) / ln(M mu + 1).
[[nodiscard]] double mu_law(double x);
/// Its inverse: sgn(y) ((1 + M mu)^|y| - 1) / mu.
[[nodiscard]] double inverse_mu_law(double y);

/// Bin in [0, 1024) of an observed value: mu-law, clip to [-1, 1], 1024 uniform bins; +1 is bin 1023. Infinities clip.
/// NaN gives -1: the caller knows the field and reports a DataError.
[[nodiscard]] int32_t observation_bin(float value);
/// Centre of a bin through the inverse mu-law.
[[nodiscard]] float observation_value(int32_t bin);

/// Bin of an action already mapped to [-1, 1]: clip, 1024 uniform bins, no mu-law. NaN gives -1.
[[nodiscard]] int32_t action_bin(float value);
/// Centre of the bin, in [-1, 1].
[[nodiscard]] float action_value(int32_t bin);

/// Maps [low, high] to [-1, 1] and back, affinely in double precision; low < high, both finite.
[[nodiscard]] float normalize_action(float value, float low, float high);
[[nodiscard]] float denormalize_action(float value, float low, float high);

/// The number that stands for a bin of an action with bounds [low, high]: the bin's centre, as near to it as floats
/// allow. action_bin(normalize_action(bin_to_action(b, low, high), low, high)) == b for every bin that holds a float.
[[nodiscard]] float bin_to_action(int32_t bin, float low, float high);

/// observation_bin of every value plus `first_id`, to `ids`. Returns the index of the first NaN, or -1. Equal sizes.
/// Fast path. After a NaN the ids are unspecified.
int64_t observation_ids(std::span<const float> values, int32_t first_id, std::span<int32_t> ids);

/// The table: element i is the smallest float whose bin is i + 1 or more.
[[nodiscard]] std::span<const float, kNumThresholds> observation_thresholds();

/// The bin by the formula in double precision, without the table: floor((F(x) + 1) / 2 x 1024), clipped. NaN gives -1.
/// Slow; what the table is made from and checked against.
[[nodiscard]] int32_t observation_bin_by_formula(float value);

/// What check_all_floats found.
struct NumberCheck {
  uint64_t checked = 0;        ///< Bit patterns compared.
  uint64_t mismatches = 0;     ///< Of them, those where the three ways did not agree.
  std::string first_mismatch;  ///< Bits, value and the three bins of one of them, lowest bits first; "" when all agree.
};

/// Compares fast path, threshold table and formula on the bit patterns 0, stride, 2 stride, ... of all 2^32 floats, in
/// parallel on the thread budget; 40 s of processor time with stride 1. `progress`, when given, is called from any
/// thread, one call at a time, with the share done in [0, 1]; an exception from it ends the check and is passed on.
[[nodiscard]] NumberCheck check_all_floats(const std::function<void(double)>& progress = {}, uint32_t stride = 1);

}  // namespace gato::tokenizer
