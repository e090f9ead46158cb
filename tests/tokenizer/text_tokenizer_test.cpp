#include "gato/tokenizer/text_tokenizer.h"

#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "gato/core/error.h"
#include "small_model.h"
#include "support/temp_folder.h"

namespace gato::tokenizer {
namespace {

using test::small_model;
using test::small_tokenizer;

void expect_round_trip(const TextTokenizer& tokenizer, const std::string& text) {
  const std::vector<int32_t> ids = tokenizer.encode(text);
  ASSERT_EQ(tokenizer.decode(ids), text) << testing::PrintToString(text);
  ASSERT_EQ(std::count(ids.begin(), ids.end(), tokenizer.end_id()), 0);
  for (const int32_t id : ids) {
    ASSERT_GE(id, 0);
    ASSERT_LT(id, tokenizer.size());
  }
}

class TextRoundTripTest : public testing::TestWithParam<std::string> {
 protected:
  TextTokenizer tokenizer_ = TextTokenizer::from_bytes(small_model(GetParam(), 600), "small model");
};

TEST_P(TextRoundTripTest, KeepsTextsThatSentencePieceWouldChange) {
  for (const std::string& text : std::vector<std::string>{"",
                                                          " ",
                                                          "  ",
                                                          " leading",
                                                          "trailing ",
                                                          "two  spaces",
                                                          "   ",
                                                          "tab\tand\nline\r\nends\n\n",
                                                          "</s>",
                                                          "<s>",
                                                          "a</s>b",
                                                          "<unk>",
                                                          "<0x41>",
                                                          "<pad>",
                                                          "\xe2\x96\x81",
                                                          "\xe2\x96\x81\xe2\x96\x81the",
                                                          "the\xe2\x96\x81the",
                                                          "\xe2\x96\x85",
                                                          "\xe2\x81\x87",
                                                          std::string("\0", 1),
                                                          std::string("a\0b\0\0", 5),
                                                          "\xf0\x9f\x98\x80",
                                                          "e\xcc\x81 \xc3\xa9",
                                                          "\xef\xbf\xbd",
                                                          "\xef\xbb\xbf",
                                                          "\xc2\xa0",
                                                          "\xe4\xbd\xa0\xe5\xa5\xbd",
                                                          "\xe2\x96\x80\xe2\x96\x82",
                                                          "\xf4\x8f\xbf\xbf",
                                                          "\x7f\x01\x1b",
                                                          "\xef\xbf\xbe\xef\xbf\xbf"}) {
    expect_round_trip(tokenizer_, text);
  }
}

TEST_P(TextRoundTripTest, KeepsRandomUtf8) {
  Rng rng(11);
  for (int i = 0; i < 3000; ++i) expect_round_trip(tokenizer_, test::random_text(rng, 40));
}

TEST_P(TextRoundTripTest, KeepsEveryCharacter) {
  std::string text;
  for (uint32_t code = 0; code <= 0x10FFFF; code += code < 0x3000 ? 1 : 7) {
    if (!test::is_scalar_value(code)) continue;
    test::append_utf8(code, text);
    if (text.size() < 2000) continue;
    expect_round_trip(tokenizer_, text);
    text.clear();
  }
  expect_round_trip(tokenizer_, text);
}

TEST_P(TextRoundTripTest, KeepsTextsLongerThanAChunk) {
  std::string words, no_spaces, wide;
  for (int i = 0; i < 30000; ++i) {
    words += " word";
    no_spaces += "abcdefg";
    wide += "\xf0\x9f\x98\x80";
  }
  for (const std::string& text : {words, no_spaces, wide, words + no_spaces + wide + "  " + words}) {
    expect_round_trip(tokenizer_, text);
  }
}

// Cutting long texts before spaces must not show: the pieces are those of the parts.
TEST_P(TextRoundTripTest, ChunksDoNotChangePieces) {
  std::string text;
  std::vector<int32_t> parts;
  const std::vector<std::string> texts = test::english_texts(40000);
  for (const std::string& paragraph : texts) {
    const std::string part = " " + paragraph;
    text += part;
    const std::vector<int32_t> ids = tokenizer_.encode(part);
    parts.insert(parts.end(), ids.begin(), ids.end());
  }
  ASSERT_GT(text.size(), 20000u);
  EXPECT_EQ(tokenizer_.encode(text), parts);
}

INSTANTIATE_TEST_SUITE_P(Types, TextRoundTripTest, testing::Values("unigram", "bpe"),
                         [](const auto& test) { return test.param; });

TEST(TextTokenizerTest, EncodesFrequentWordsAsOnePiece) {
  const TextTokenizer& tokenizer = small_tokenizer();
  const std::vector<int32_t> ids = tokenizer.encode(" the");
  ASSERT_EQ(ids.size(), 1u);
  EXPECT_EQ(tokenizer.piece(ids[0]), "\xe2\x96\x81the");
  size_t bytes = 0, tokens = 0;
  for (const std::string& text : test::english_texts(5000)) {
    bytes += text.size();
    tokens += tokenizer.encode(text).size();
  }
  EXPECT_GT(static_cast<double>(bytes) / static_cast<double>(tokens), 2.8);
}

TEST(TextTokenizerTest, HasOnePieceForALineFeed) {
  EXPECT_EQ(small_tokenizer().encode("\n").size(), 1u);
  EXPECT_EQ(small_tokenizer().piece(small_tokenizer().encode("\n")[0]), "\n");
}

TEST(TextTokenizerTest, HasTheStatedIds) {
  const TextTokenizer& tokenizer = small_tokenizer();
  EXPECT_EQ(tokenizer.size(), 1024);
  EXPECT_EQ(tokenizer.end_id(), 1);
  EXPECT_EQ(tokenizer.piece(0), "<unk>");
  EXPECT_EQ(tokenizer.piece(1), "</s>");
  EXPECT_EQ(tokenizer.piece(2), "<0x00>");
  EXPECT_EQ(tokenizer.piece(257), "<0xFF>");
  EXPECT_THROW(static_cast<void>(tokenizer.piece(1024)), ContractError);
  EXPECT_THROW(static_cast<void>(tokenizer.piece(-1)), ContractError);
}

TEST(TextTokenizerTest, WritesSpecialCharactersAsBytes) {
  EXPECT_EQ(small_tokenizer().encode("\xe2\x96\x81"), (std::vector<int32_t>{2 + 0xE2, 2 + 0x96, 2 + 0x81}));
  EXPECT_EQ(small_tokenizer().encode(std::string("\0", 1)), std::vector<int32_t>{2});
}

TEST(TextTokenizerTest, DecodesWhatNoTextEncodesTo) {
  const TextTokenizer& tokenizer = small_tokenizer();
  const auto byte = [](int value) { return 2 + value; };
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{0, 1, byte('a'), 1, 0}), "a");
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{byte(0xC3), byte(0xA9)}), "\xc3\xa9");
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{byte(0xC3)}), "\xef\xbf\xbd");
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{byte(0xC3), 1, byte(0xA9)}), "\xef\xbf\xbd\xef\xbf\xbd");
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{byte('a'), byte(0xFF), byte('b')}),
            "a\xef\xbf\xbd"
            "b");
  EXPECT_EQ(tokenizer.decode({}), "");
  EXPECT_THROW(static_cast<void>(tokenizer.decode(std::vector<int32_t>{1024})), DataError);
  EXPECT_THROW(static_cast<void>(tokenizer.decode(std::vector<int32_t>{-1})), DataError);
}

TEST(TextTokenizerTest, DecodesAnyIdsToValidUtf8) {
  Rng rng(3);
  for (int i = 0; i < 500; ++i) {
    std::vector<int32_t> ids(static_cast<size_t>(rng.below(30)));
    for (int32_t& id : ids) id = static_cast<int32_t>(rng.below(rng.below(2) == 0 ? 258 : 1024));
    EXPECT_TRUE(is_valid_utf8(small_tokenizer().decode(ids)));
  }
}

TEST(TextTokenizerTest, NamesTheOffsetOfInvalidUtf8) {
  for (const std::string& bad :
       {std::string("ab\xff"), std::string("ab\xc3"), std::string("ab\xed\xa0\x80"), std::string("ab\xc0\x80")}) {
    try {
      static_cast<void>(small_tokenizer().encode(bad));
      FAIL() << "accepted";
    } catch (const DataError& error) {
      EXPECT_NE(std::string(error.what()).find("byte 2 "), std::string::npos) << error.what();
    }
  }
}

TEST(TextTokenizerTest, LoadsFromAFileAndKeepsItsBytes) {
  const gato::test::TempFolder folder;
  const Path file = folder.path() / "text.model";
  write_file_atomic(file, small_model("unigram", 1024));
  TextTokenizer tokenizer = TextTokenizer::load(file);
  EXPECT_EQ(tokenizer.model_bytes(), small_model("unigram", 1024));
  EXPECT_EQ(tokenizer.digest(), digest128(small_model("unigram", 1024)));
  const TextTokenizer moved = std::move(tokenizer);
  EXPECT_EQ(moved.encode("In the beginning"), small_tokenizer().encode("In the beginning"));
}

TEST(TextTokenizerTest, NamesAMissingFile) {
  const gato::test::TempFolder folder;
  EXPECT_THROW(TextTokenizer::load(folder.path() / "none.model"), IoError);
}

TEST(TextTokenizerTest, EncodesFromManyThreads) {
  const std::vector<std::string> texts = test::english_texts(20000);
  std::vector<std::vector<int32_t>> expected;
  for (const std::string& text : texts) expected.push_back(small_tokenizer().encode(text));
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (int& count : wrong) {
    threads.emplace_back([&] {
      for (size_t i = 0; i < texts.size(); ++i) {
        count += small_tokenizer().encode(texts[i]) == expected[i] && small_tokenizer().decode(expected[i]) == texts[i]
                     ? 0
                     : 1;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

}  // namespace
}  // namespace gato::tokenizer
