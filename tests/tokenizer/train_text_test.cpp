// Training of text tokenizers.
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "gato/core/error.h"
#include "gato/tokenizer/text_tokenizer.h"
#include "small_model.h"

namespace gato::tokenizer {
namespace {

using test::train_on;

TokenizerTraining training(int64_t size, const std::string& type = "unigram") {
  TokenizerTraining config;
  config.vocabulary_size = size;
  config.model_type = type;
  return config;
}

void expect_exact(const std::string& model, const std::vector<std::string>& texts) {
  const TextTokenizer tokenizer = TextTokenizer::from_bytes(model, "model");
  for (const std::string& text : texts) ASSERT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
}

class TrainTextTest : public testing::TestWithParam<std::string> {};

TEST_P(TrainTextTest, GivesTheSameBytesForTheSameTexts) {
  const std::vector<std::string> texts = test::english_texts(30000);
  const std::string model = train_on(texts, training(500, GetParam()));
  EXPECT_EQ(train_on(texts, training(500, GetParam())), model);
  EXPECT_EQ(TextTokenizer::from_bytes(model, "model").size(), 500);
  expect_exact(model, texts);
}

TEST_P(TrainTextTest, NamesTheLargestPossibleSize) {
  const std::vector<std::string> texts = test::english_texts(5000);
  std::string message;
  try {
    static_cast<void>(train_on(texts, training(32000, GetParam())));
  } catch (const ConfigError& error) {
    message = error.what();
  }
  const std::string marker = "the largest possible has ";
  ASSERT_NE(message.find(marker), std::string::npos) << message;
  const int64_t largest = std::stoll(message.substr(message.find(marker) + marker.size()));
  ASSERT_GE(largest, 320);
  EXPECT_EQ(TextTokenizer::from_bytes(train_on(texts, training(largest, GetParam())), "model").size(), largest);
  EXPECT_THROW(static_cast<void>(train_on(texts, training(largest + 1, GetParam()))), ConfigError);
}

// SentencePiece ends the process, or passes over texts, for inputs such as these.
TEST_P(TrainTextTest, SurvivesTextsThatSentencePieceDoesNot) {
  const std::vector<std::string> english = test::english_texts(20000);
  for (const std::string& odd :
       {std::string(), std::string("\t\t\t"), std::string("\xe2\x96\x85"), std::string("\xe2\x96\x81"),
        std::string("</s>"), std::string("\0\0", 2), std::string(" "), std::string("\n"), std::string(200000, 'a'),
        std::string("\xf0\x9f\x98\x80")}) {
    EXPECT_THROW(static_cast<void>(train_on({odd}, training(1024, GetParam()))), ConfigError);  // too few texts
    std::vector<std::string> texts = english;
    texts.push_back(odd);
    texts.push_back("In the beginning" + odd + "God created");
    expect_exact(train_on(texts, training(400, GetParam())), texts);
  }
}

TEST_P(TrainTextTest, TextsOfManyCharactersFillAnyVocabulary) {
  std::vector<std::string> texts;
  Rng rng(1);
  for (int i = 0; i < 300; ++i) {
    std::string text = "the same words ";
    for (int c = 0; c < 30; ++c) test::append_utf8(0x4E00 + static_cast<uint32_t>(rng.below(3000)), text);
    texts.push_back(text);
  }
  const std::string model = train_on(texts, training(400, GetParam()));
  EXPECT_EQ(TextTokenizer::from_bytes(model, "model").size(), 400);
  expect_exact(model, texts);
  EXPECT_LE(TextTokenizer::from_bytes(model, "model").encode("the same words").size(), 8u);
}

// Then there is no piece for the space, and SentencePiece spells its own sign for it.
TEST_P(TrainTextTest, KeepsSpacesThatTrainingDidNotSee) {
  std::vector<std::string> texts;
  for (const std::string& text : test::english_texts(30000)) {
    texts.push_back(text);
    std::erase(texts.back(), ' ');
  }
  expect_exact(train_on(texts, training(400, GetParam())), {" ", "  a  b ", "\xe2\x96\x81 \xe2\x96\x81", "the \n end"});
}

// Longer "sentences" would be left out of training without a word.
TEST_P(TrainTextTest, LearnsFromLongTexts) {
  std::string text;
  for (const std::string& paragraph : test::english_texts(60000)) text += paragraph + " ";
  const TextTokenizer tokenizer = TextTokenizer::from_bytes(train_on({text}, training(500, GetParam())), "model");
  EXPECT_EQ(tokenizer.encode(" the").size(), 1u);
}

INSTANTIATE_TEST_SUITE_P(Types, TrainTextTest, testing::Values("unigram", "bpe"),
                         [](const auto& test) { return test.param; });

TEST(TrainTextTest, ReadsNoMoreTextsThanAsked) {
  TokenizerTraining config = training(320);
  config.max_sentences = 50;
  int64_t asked = 0;
  const std::vector<std::string> texts = test::english_texts(60000);
  const std::string model = train_text_tokenizer(config, [&](std::string& text) {
    text = texts[static_cast<size_t>(asked++) % texts.size()];
    return true;
  });
  EXPECT_EQ(asked, 50);
  EXPECT_EQ(TextTokenizer::from_bytes(model, "model").size(), 320);
}

TEST(TrainTextTest, RefusesBadInput) {
  EXPECT_THROW(static_cast<void>(train_on({}, training(400))), ConfigError);
  EXPECT_THROW(static_cast<void>(train_on({"a"}, training(100))), ConfigError);
  EXPECT_THROW(static_cast<void>(train_on({"a"}, training(400, "word"))), ConfigError);
  EXPECT_THROW(static_cast<void>(train_on({"good", "bad \xff"}, training(400))), DataError);
  TokenizerTraining none = training(400);
  none.max_sentences = 0;
  EXPECT_THROW(static_cast<void>(train_on({"a"}, none)), ConfigError);
}

TEST(TrainTextTest, WritesNothingToTheTerminal) {
  testing::internal::CaptureStderr();
  static_cast<void>(train_on(test::english_texts(20000), training(400)));
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(TrainTextTest, ConfigurationIsStrict) {
  const auto node = parse_yaml("vocabulary_size: 2048\nmodel_type: bpe\n", "test");
  EXPECT_EQ(read_config<TokenizerTraining>(node).vocabulary_size, 2048);
  EXPECT_THROW(static_cast<void>(read_config<TokenizerTraining>(parse_yaml("vocabulary: 2048\n", "test"))),
               ConfigError);
  EXPECT_THROW(static_cast<void>(read_config<TokenizerTraining>(parse_yaml("vocabulary_size: 9\n", "test"))),
               ConfigError);
}

}  // namespace
}  // namespace gato::tokenizer
