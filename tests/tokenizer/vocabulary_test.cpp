#include "gato/tokenizer/vocabulary.h"

#include <gtest/gtest.h>

#include "gato/core/error.h"

namespace gato::tokenizer {
namespace {

TEST(VocabularyTest, SharesTextIdsWithDiscreteValuesAsInThePaper) {
  const Vocabulary vocabulary(32000, false);
  EXPECT_EQ(vocabulary.text_size(), 32000);
  EXPECT_EQ(vocabulary.first_bin(), 32000);
  EXPECT_EQ(vocabulary.bin_id(1023), 33023);
  EXPECT_EQ(vocabulary.separator(), 33024);
  EXPECT_EQ(vocabulary.first_discrete(), 0);
  EXPECT_EQ(vocabulary.size(), 33025);
}

TEST(VocabularyTest, PutsPrivateDiscreteValuesLast) {
  const Vocabulary vocabulary(500, true);
  EXPECT_EQ(vocabulary.separator(), 1524);
  EXPECT_EQ(vocabulary.first_discrete(), 1525);
  EXPECT_EQ(vocabulary.size(), 2549);
}

TEST(VocabularyTest, RefusesSizesThatCannotWork) {
  EXPECT_NO_THROW(Vocabulary(1024, false));
  EXPECT_THROW(Vocabulary(1023, false), ConfigError);
  EXPECT_NO_THROW(Vocabulary(1, true));
  EXPECT_THROW(Vocabulary(0, true), ConfigError);
  EXPECT_THROW(Vocabulary(-5, true), ConfigError);
  EXPECT_THROW(Vocabulary(int64_t{1} << 40, true), ConfigError);
}

}  // namespace
}  // namespace gato::tokenizer
