#pragma once
#include <cstdint>
#include <span>

#include "gato/tokenizer/vocabulary.h"

/// Continuous values to bins and back. Every conversion goes through a table of 1023 fp32 thresholds computed once in double
/// precision, so every path and machine agrees on every float.
namespace gato::tokenizer {

constexpr double kMuLawMu = 100;  ///< Paper section 2.1 and appendix B.
constexpr double kMuLawM = 256;

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

/// Maps [low, high] to [-1, 1] and back; low < high.
[[nodiscard]] float normalize_action(float value, float low, float high);
[[nodiscard]] float denormalize_action(float value, float low, float high);

/// observation_bin of every value plus `first_id`, to `ids`. Returns the index of the first NaN, or -1. Equal sizes. Fast path.
int64_t observation_ids(std::span<const float> values, int32_t first_id, std::span<int32_t> ids);

}  // namespace gato::tokenizer
