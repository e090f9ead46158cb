#pragma once
#include <algorithm>
#include <string>
#include <vector>

#include "gato/core/file.h"
#include "gato/core/random.h"
#include "gato/tokenizer/text_tokenizer.h"

/// Text tokenizers trained once per test program on text that comes with the project.
namespace gato::tokenizer::test {

/// The first `bytes` bytes of the project's English text, one verse each.
inline std::vector<std::string> english_texts(size_t bytes) {
  const std::string all = read_file(Path(GATO_SOURCE_DIR) / "data" / "text" / "kjv.txt").substr(0, bytes);
  std::vector<std::string> texts;
  for (size_t at = 0; at < all.size();) {
    const size_t end = std::min(all.find('\n', at), all.size());
    texts.push_back(all.substr(at, end - at));
    at = end + 1;
  }
  return texts;
}

inline std::string train_on(const std::vector<std::string>& texts, const TokenizerTraining& config) {
  size_t next = 0;
  return train_text_tokenizer(config, [&](std::string& text) {
    if (next == texts.size()) return false;
    text = texts[next++];
    return true;
  });
}

inline const std::string& small_model(const std::string& type, int64_t size) {
  static std::vector<std::pair<std::string, std::string>> made;
  const std::string key = type + std::to_string(size);
  for (const auto& [name, model] : made) {
    if (name == key) return model;
  }
  TokenizerTraining config;
  config.model_type = type;
  config.vocabulary_size = size;
  made.reserve(16);  // references to models must stay
  return made.emplace_back(key, train_on(english_texts(size_t{100} << 10), config)).second;
}

/// 1024 ids, unigram.
inline const TextTokenizer& small_tokenizer() {
  static const TextTokenizer tokenizer = TextTokenizer::from_bytes(small_model("unigram", 1024), "small model");
  return tokenizer;
}

inline void append_utf8(uint32_t code, std::string& text) {
  const auto put = [&](uint32_t byte) { text += static_cast<char>(static_cast<unsigned char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6);
    put(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12);
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  } else {
    put(0xF0 | code >> 18);
    put(0x80 | (code >> 12 & 0x3F));
    put(0x80 | (code >> 6 & 0x3F));
    put(0x80 | (code & 0x3F));
  }
}

inline bool is_scalar_value(uint32_t code) { return code < 0xD800 || (code > 0xDFFF && code <= 0x10FFFF); }

/// Valid UTF-8 of up to `max_parts` parts: words, spaces, line ends, names of control pieces, SentencePiece's own
/// signs, combining marks, emoji and characters from anywhere.
inline std::string random_text(Rng& rng, int64_t max_parts) {
  static const std::vector<std::string> kParts = {"the",
                                                  " the",
                                                  " and",
                                                  "begat ",
                                                  "\n",
                                                  "\r\n",
                                                  " ",
                                                  "  ",
                                                  "   ",
                                                  "\t",
                                                  "</s>",
                                                  "<s>",
                                                  "<unk>",
                                                  "<0x41>",
                                                  "<pad>",
                                                  "\xe2\x96\x81",
                                                  "\xe2\x96\x85",
                                                  "\xe2\x81\x87",
                                                  std::string("\0", 1),
                                                  "e\xcc\x81",
                                                  "\xf0\x9f\x98\x80",
                                                  "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x9a\x80",
                                                  "\xef\xbf\xbd",
                                                  "\xef\xbb\xbf",
                                                  "\xc2\xa0",
                                                  "\x7f",
                                                  "1234",
                                                  "\xe4\xbd\xa0"};
  std::string text;
  const int64_t parts = rng.below(max_parts + 1);
  for (int64_t i = 0; i < parts; ++i) {
    if (rng.below(3) != 0) {
      text += kParts[static_cast<size_t>(rng.below(static_cast<int64_t>(kParts.size())))];
      continue;
    }
    const int64_t range = rng.below(2) == 0 ? 0x300 : 0x110000;
    const auto code = static_cast<uint32_t>(rng.below(range));
    if (is_scalar_value(code)) append_utf8(code, text);
  }
  return text;
}

}  // namespace gato::tokenizer::test
