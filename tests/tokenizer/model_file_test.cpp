// Model files that nobody vouches for: damaged, cut short, or made with settings that lose bytes.
#include <cstring>
#include <limits>
#include <string>

#include <gtest/gtest.h>

#include "gato/core/error.h"
#include "gato/tokenizer/text_tokenizer.h"
#include "small_model.h"
#include "support/temp_folder.h"

namespace gato::tokenizer {
namespace {

/// Protobuf's wire format, by hand: whatever is appended to a message overrides or adds to it.
std::string varint(uint64_t value) {
  std::string bytes;
  while (value >= 0x80) {
    bytes += static_cast<char>(static_cast<unsigned char>(value | 0x80));
    value >>= 7;
  }
  return bytes + static_cast<char>(static_cast<unsigned char>(value));
}
std::string number(uint64_t field, uint64_t value) { return varint(field << 3) + varint(value); }
std::string bytes(uint64_t field, const std::string& content) {
  return varint(field << 3 | 2) + varint(content.size()) + content;
}
std::string fixed32(uint64_t field, float value) {
  std::string content(4, '\0');
  std::memcpy(content.data(), &value, 4);
  return varint(field << 3 | 5) + content;
}

// Fields of ModelProto.
std::string piece(const std::string& text, float score = -5, uint64_t type = 1) {
  return bytes(1, bytes(1, text) + fixed32(2, score) + number(3, type));
}
std::string trainer_setting(uint64_t field, uint64_t value) { return bytes(2, number(field, value)); }
std::string normalizer_setting(uint64_t field, uint64_t value) { return bytes(3, number(field, value)); }

const std::string& model() { return test::small_model("unigram", 400); }

std::string message_of(const std::string& damaged) {
  try {
    TextTokenizer::from_bytes(damaged, "some.model");
  } catch (const DataError& error) {
    return error.what();
  }
  return "accepted";
}

void expect_refused(const std::string& damaged, const std::string& words) {
  const std::string message = message_of(damaged);
  EXPECT_NE(message.find("some.model"), std::string::npos) << message;
  EXPECT_NE(message.find(words), std::string::npos) << message;
}

TEST(ModelFileTest, AcceptsHarmlessAdditions) {
  EXPECT_EQ(TextTokenizer::from_bytes(model() + piece("zyzzyva"), "m").size(), 401);
  EXPECT_EQ(TextTokenizer::from_bytes(model() + piece("<<x>>", 0, 4), "m").size(), 401);
}

TEST(ModelFileTest, RefusesSettingsThatLoseBytes) {
  expect_refused(model() + normalizer_setting(3, 1), "add_dummy_prefix");
  expect_refused(model() + normalizer_setting(4, 1), "remove_extra_whitespaces");
  expect_refused(model() + normalizer_setting(5, 0), "escape_whitespaces");
  expect_refused(model() + bytes(3, bytes(2, "some rules")), "normalization");
  expect_refused(model() + bytes(5, bytes(2, "some rules")), "denormalization");
  expect_refused(model() + trainer_setting(35, 0), "byte_fallback");
  expect_refused(model() + trainer_setting(3, 3), "neither unigram nor bpe");
  expect_refused(model() + trainer_setting(3, 4), "neither unigram nor bpe");
  expect_refused(model() + bytes(4, bytes(1, bytes(1, "a"))), "self-test");
}

TEST(ModelFileTest, RefusesPiecesThatCannotBe) {
  expect_refused(model() + piece(""), "empty");
  expect_refused(model() + piece("a\xff"), "UTF-8");
  expect_refused(model() + piece(std::string("a\0b", 3)), "U+0000");
  expect_refused(model() + piece("<0x41>"), "twice");
  expect_refused(model() + piece("</s>"), "twice");
  expect_refused(model() + piece("zz", std::numeric_limits<float>::quiet_NaN()), "score");
  expect_refused(model() + piece("zz", std::numeric_limits<float>::infinity()), "score");
  expect_refused(model() + piece("zz", 1e30f), "score");
  expect_refused(model() + piece(std::string(5000, 'a')), "a piece of 5000 bytes");
  expect_refused(model() + piece(std::string(65, 'a'), 0, 4), "user-defined");
  expect_refused(model() + piece("zz", 0, 2), "unk is already defined");
  expect_refused(model() + piece("zz", 0, 6), "byte piece");
}

TEST(ModelFileTest, RefusesModelsWithoutTheNecessaryPieces) {
  const std::string settings = bytes(2, number(3, 1) + number(35, 1)) + bytes(3, number(3, 0) + number(4, 0));
  std::string byte_pieces;
  for (int i = 0; i < 256; ++i) {
    const char* digits = "0123456789ABCDEF";
    byte_pieces += piece(std::string("<0x") + digits[i / 16] + digits[i % 16] + ">", 0, 6);
  }
  const std::string unknown = piece("<unk>", 0, 2), end = piece("</s>", 0, 3), letter = piece("a");
  const TextTokenizer whole = TextTokenizer::from_bytes(unknown + end + byte_pieces + letter + settings, "m");
  EXPECT_EQ(whole.decode(whole.encode("banana \xe2\x96\x81")), "banana \xe2\x96\x81");
  expect_refused(unknown + end + letter + settings, "byte pieces");
  expect_refused(unknown + byte_pieces + letter + settings, "</s>");
  expect_refused(unknown + piece("</s>", 0, 1) + byte_pieces + letter + settings, "</s>");
  expect_refused(end + byte_pieces + letter + settings, "unk");
  expect_refused(unknown + end + byte_pieces + settings, "no pieces");
  expect_refused(settings, "no pieces");
  expect_refused("", "no pieces");
}

TEST(ModelFileTest, RefusesMalformedWireFormat) {
  expect_refused("not a model at all", "no SentencePiece model");
  expect_refused(model() + varint(1 << 3 | 2) + varint(1000), "a field of 1000 bytes where 0 are left");
  expect_refused(model() + varint(7 << 3 | 2) + varint(std::numeric_limits<uint64_t>::max()), "are left");
  expect_refused(model() + varint(1 << 3 | 3), "wire type");
  expect_refused(model() + varint(1 << 3 | 7), "wire type");
  expect_refused(model() + varint(0), "field number");
  expect_refused(model() + std::string(11, '\xff'), "more than ten bytes");
  expect_refused(model() + "\xff", "cut off");
  expect_refused(model() + bytes(1, bytes(1, "ab").substr(0, 3)), "where");
  expect_refused(model() + number(1, 5), "no message");
}

TEST(ModelFileTest, RefusesMassesOfTinyFields) {
  std::string pieces, settings;
  for (size_t i = 0; i <= size_t{1} << 20; ++i) pieces += std::string("\x0a\x00", 2);
  expect_refused(pieces, "more than 1048576 pieces");
  for (int i = 0; i < 20000; ++i) settings += bytes(1, "");
  expect_refused(model() + bytes(2, settings), "settings");
}

TEST(ModelFileTest, RefusesTooLargeFilesBeforeReadingThem) {
  expect_refused(std::string((size_t{16} << 20) + 1, 'x'), "16777217 bytes");
  const gato::test::TempFolder folder;
  const Path file = folder.path() / "big.model";
  write_file_atomic(file, std::string((size_t{16} << 20) + 1, 'x'));
  EXPECT_THROW(TextTokenizer::load(file), DataError);
}

TEST(ModelFileTest, RefusesEveryTruncation) {
  for (size_t size = 0; size < model().size(); ++size) {
    ASSERT_NE(message_of(model().substr(0, size)), "accepted") << size;
  }
}

TEST(ModelFileTest, FlippedBytesAreRefusedOrGiveAModelThatKeepsTexts) {
  Rng rng(5);
  const std::string text = "In the beginning </s> \xe2\x96\x81 \xf0\x9f\x98\x80\n  God";
  int accepted = 0;
  for (int i = 0; i < 2000; ++i) {
    std::string damaged = model();
    char& byte = damaged[static_cast<size_t>(rng.below(static_cast<int64_t>(damaged.size())))];
    byte = static_cast<char>(byte ^ (1 << rng.below(8)));
    try {
      const TextTokenizer tokenizer = TextTokenizer::from_bytes(damaged, "some.model");
      EXPECT_NE(tokenizer.digest(), digest128(model()));
      ASSERT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
      ++accepted;
    } catch (const DataError& error) {
      ASSERT_NE(std::string(error.what()).find("some.model"), std::string::npos);
    }
  }
  EXPECT_GT(accepted, 0);
  EXPECT_LT(accepted, 2000);
}

}  // namespace
}  // namespace gato::tokenizer
