#include "gato/core/text.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "gato/core/excerpt.h"
#include "gato/core/random.h"

namespace gato {
namespace {

TEST(TextTest, CatWritesArgumentsOneAfterTheOther) {
  EXPECT_EQ(cat("a", 1, '-', 2.5, std::string("z")), "a1-2.5z");
  EXPECT_EQ(cat(), "");
}

TEST(TextTest, SplitAndJoinAreInverse) {
  for (const char* text : {"", "a", ",", "a,b", ",a,,b,"}) EXPECT_EQ(join(split(text, ','), ","), text);
  EXPECT_EQ(split("", ',').size(), 1u);
  EXPECT_EQ(split("a,,b", ','), (std::vector<std::string>{"a", "", "b"}));
  EXPECT_EQ(join({}, ", "), "");
}

TEST(TextTest, TrimTakesBlanksFromBothSides) {
  EXPECT_EQ(trim(" \t a b\r\n"), "a b");
  EXPECT_EQ(trim(" \n"), "");
  EXPECT_EQ(trim(""), "");
}

TEST(TextTest, NearestFindsTyposOnly) {
  const std::vector<std::string> known = {"row_tokens", "prompt_probability", "seed", "lr"};
  EXPECT_EQ(nearest("row_token", known), "row_tokens");
  EXPECT_EQ(nearest("rwo_tokens", known), "row_tokens");
  EXPECT_EQ(nearest("promt_probabilty", known), "prompt_probability");
  EXPECT_EQ(nearest("sead", known), "seed");
  EXPECT_EQ(nearest("optimizer", known), "");
  EXPECT_EQ(nearest("xy", known), "");
  EXPECT_EQ(nearest("", known), "");
  EXPECT_EQ(nearest("seed", {}), "");
  EXPECT_EQ(nearest(std::string(1 << 20, 'x'), known), "");
}

/// The definition of matching, written down as recursion.
bool matches_by_definition(std::string_view pattern, std::string_view text) {
  if (pattern.empty()) return text.empty();
  if (pattern[0] == '*') {
    return matches_by_definition(pattern.substr(1), text) ||
           (!text.empty() && matches_by_definition(pattern, text.substr(1)));
  }
  return !text.empty() && (pattern[0] == '?' || pattern[0] == text[0]) &&
         matches_by_definition(pattern.substr(1), text.substr(1));
}

TEST(TextTest, PatternsMatchAsDefined) {
  EXPECT_TRUE(matches_pattern("control/*", "control/reacher"));
  EXPECT_FALSE(matches_pattern("control/*", "grid/go_to"));
  EXPECT_TRUE(matches_pattern("*", ""));
  EXPECT_FALSE(matches_pattern("?", ""));
  Rng rng(1);
  for (int i = 0; i < 20000; ++i) {
    std::string pattern;
    std::string text;
    for (int64_t n = rng.below(7); n > 0; --n) pattern += "ab*?"[rng.below(4)];
    for (int64_t n = rng.below(8); n > 0; --n) text += "ab"[rng.below(2)];
    EXPECT_EQ(matches_pattern(pattern, text), matches_by_definition(pattern, text)) << pattern << " " << text;
  }
}

TEST(TextTest, ManyStarsTakeNoExponentialTime) {
  std::string pattern;
  for (int i = 0; i < 50; ++i) pattern += "a*";
  EXPECT_FALSE(matches_pattern(pattern + "b", std::string(5000, 'a')));
}

TEST(TextTest, NumbersForPeople) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(917), "917");
  EXPECT_EQ(format_count(12345), "12.3 k");
  EXPECT_EQ(format_count(999.7), "1.00 k");
  EXPECT_EQ(format_count(999499), "999 k");
  EXPECT_EQ(format_count(999999), "1.00 M");
  EXPECT_EQ(format_count(4.914e6), "4.91 M");
  EXPECT_EQ(format_count(1.0765e9), "1.08 B");
  EXPECT_EQ(format_count(-12345), "-12.3 k");
  EXPECT_EQ(format_bytes(917), "917 B");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(12.3 * 1024), "12.3 KiB");
  EXPECT_EQ(format_bytes(4.91 * 1024 * 1024), "4.91 MiB");
  EXPECT_EQ(format_fixed(1.25, 1), "1.2");
  EXPECT_EQ(format_fixed(-0.5, 3), "-0.500");
  EXPECT_EQ(format_fixed(std::numeric_limits<double>::max(), 2).size(), 309u + 3);
  EXPECT_EQ(format_count(std::nan("")), "nan");
}

TEST(TextTest, DurationsForPeople) {
  EXPECT_EQ(format_seconds(0.42), "0.42 s");
  EXPECT_EQ(format_seconds(9.999), "10 s");
  EXPECT_EQ(format_seconds(12.3), "12 s");
  EXPECT_EQ(format_seconds(59.6), "1 min 00 s");
  EXPECT_EQ(format_seconds(185), "3 min 05 s");
  EXPECT_EQ(format_seconds(3599.9), "1 h 00 min");
  EXPECT_EQ(format_seconds(2 * 3600 + 7 * 60), "2 h 07 min");
  EXPECT_EQ(format_seconds(std::numeric_limits<double>::infinity()), "unknown time");
  EXPECT_NE(format_seconds(1e300), "");
}

/// UTF-8 of a code point, also of those that have no right to one.
std::string encode(uint32_t code, int bytes) {
  if (bytes == 1) return {static_cast<char>(code)};
  std::string out;
  for (int i = 0; i < bytes - 1; ++i) {
    out.insert(out.begin(), static_cast<char>(0x80u | (code & 0x3Fu)));
    code >>= 6;
  }
  const uint32_t lead = (0xFF00u >> bytes) & 0xFFu;
  out.insert(out.begin(), static_cast<char>(lead | code));
  return out;
}

TEST(TextTest, Utf8AcceptsEveryScalarValueAndNothingElse) {
  for (uint32_t code = 0; code < 0x110000; ++code) {
    const int bytes = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    const bool is_surrogate = code >= 0xD800 && code < 0xE000;
    ASSERT_EQ(is_valid_utf8(encode(code, bytes)), !is_surrogate) << code;
    if (bytes < 4) {
      ASSERT_FALSE(is_valid_utf8(encode(code, bytes + 1))) << "overlong " << code;
    }
  }
  for (uint32_t code = 0x110000; code < 0x200000; code += 997) ASSERT_FALSE(is_valid_utf8(encode(code, 4))) << code;
}

TEST(TextTest, Utf8NamesTheFirstBadByte) {
  size_t offset = 0;
  EXPECT_FALSE(is_valid_utf8("ab\xC3\xA9\xFFz", &offset));
  EXPECT_EQ(offset, 4u);
  const std::string snowman = "x\xE2\x98\x83";
  for (size_t cut = 2; cut < snowman.size(); ++cut) {
    EXPECT_FALSE(is_valid_utf8(snowman.substr(0, cut), &offset));
    EXPECT_EQ(offset, 1u);
  }
  EXPECT_TRUE(is_valid_utf8(snowman));
}

TEST(ExcerptTest, IsShortPrintableAndValid) {
  EXPECT_EQ(excerpt("plain"), "plain");
  EXPECT_EQ(excerpt("a\nb\x01"), "a?b?");
  EXPECT_EQ(excerpt("a\xFFz"), "a?z");
  EXPECT_EQ(excerpt("12345678", 4), "1234...");
  EXPECT_EQ(excerpt("abc\xE2\x98\x83", 4), "abc...");  // never half a character
  Rng rng(2);
  for (int i = 0; i < 2000; ++i) {
    std::string text;
    for (int64_t n = rng.below(40); n > 0; --n) text += static_cast<char>(rng.below(256));
    const std::string shown = excerpt(text, 20);
    EXPECT_TRUE(is_valid_utf8(shown));
    EXPECT_LE(shown.size(), 23u);
  }
}

}  // namespace
}  // namespace gato
