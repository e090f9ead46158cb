#include "gato/tokenizer/vocabulary.h"

#include "gato/core/error.h"

namespace gato::tokenizer {
namespace {

constexpr int64_t kMaxTextSize = int64_t{1} << 24;  // Ids stay far from the limits of int32, tables far from absurd.

int32_t checked_text_size(int64_t text_size, bool private_discrete) {
  if (text_size < 1 || text_size > kMaxTextSize) {
    throw ConfigError(cat("the text vocabulary has ", text_size, " ids, must be in [1, ", kMaxTextSize, "]"));
  }
  if (!private_discrete && text_size < kNumBins) {
    throw ConfigError(cat("the text vocabulary has ", text_size, " ids, but discrete values share its ids 0..",
                          kNumBins - 1, ": train a text tokenizer with at least ", kNumBins,
                          " ids, or give discrete values a private range"));
  }
  return static_cast<int32_t>(text_size);
}

}  // namespace

Vocabulary::Vocabulary(int64_t text_size, bool private_discrete)
    : text_size_(checked_text_size(text_size, private_discrete)), private_discrete_(private_discrete) {}

}  // namespace gato::tokenizer
