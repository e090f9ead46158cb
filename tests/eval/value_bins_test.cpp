// The bins that the choice of tokens knows are those of the tokenizer.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "gato/kernels/token_choice.h"
#include "gato/tokenizer/numbers.h"

namespace gato::eval {
namespace {

TEST(ValueBinsTest, AreThoseOfTheTokenizer) {
  ASSERT_EQ(kernels::kNumValueBins, tokenizer::kNumBins);
  for (int32_t bin = 0; bin < kernels::kNumValueBins; ++bin) {
    EXPECT_EQ(kernels::value_of_bin(bin), tokenizer::action_value(bin)) << bin;
  }
}

TEST(ValueBinsTest, EveryFloatFallsIntoTheSameOne) {
  constexpr uint32_t kStep = 4099;  // a prime: about a million floats of all sizes and signs
  for (uint64_t bits = 0; bits <= 0xffffffffu; bits += kStep) {
    const auto value = std::bit_cast<float>(static_cast<uint32_t>(bits));
    if (std::isnan(value)) continue;
    ASSERT_EQ(kernels::bin_of_value(value), tokenizer::action_bin(value)) << value;
  }
  for (int32_t edge = -512; edge <= 512; ++edge) {  // between two bins, and the floats beside
    const float value = static_cast<float>(edge) / 512;
    for (const float near : {std::nextafter(value, -2.0f), value, std::nextafter(value, 2.0f)}) {
      ASSERT_EQ(kernels::bin_of_value(near), tokenizer::action_bin(near)) << near;
    }
  }
}

}  // namespace
}  // namespace gato::eval
