#pragma once
#include <cstdint>
#include <string>

#include "gato/core/config.h"

namespace gato::tokenizer {

constexpr int64_t kNumBins = 1024;  ///< Bins of a continuous value, and ids of a discrete one (paper section 2.1).

/// Where the ids of each modality are (design.md section 6): text [0, T), bins [T, T + 1024), separator T + 1024, and,
/// with `private_discrete`, discrete values [T + 1025, T + 2049); otherwise discrete values share text ids 0..1023 as
/// in the paper.
class Vocabulary {
 public:
  /// `text_size` is T > 0. Throws ConfigError for T < 1024 without private discrete ids.
  Vocabulary(int64_t text_size, bool private_discrete);

  [[nodiscard]] int32_t text_size() const { return text_size_; }
  [[nodiscard]] int32_t bin_id(int32_t bin) const { return text_size_ + bin; }
  [[nodiscard]] int32_t first_bin() const { return text_size_; }
  [[nodiscard]] int32_t separator() const { return text_size_ + static_cast<int32_t>(kNumBins); }
  [[nodiscard]] int32_t first_discrete() const { return private_discrete_ ? separator() + 1 : 0; }
  [[nodiscard]] bool private_discrete() const { return private_discrete_; }
  /// Number of rows of the embedding table.
  [[nodiscard]] int32_t size() const {
    return separator() + 1 + (private_discrete_ ? static_cast<int32_t>(kNumBins) : 0);
  }
  bool operator==(const Vocabulary&) const = default;

 private:
  int32_t text_size_;
  bool private_discrete_;
};

}  // namespace gato::tokenizer
