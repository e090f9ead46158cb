#include "gato/core/json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "gato/core/error.h"
#include "gato/core/random.h"
#include "support/cpu_time.h"

namespace gato {
namespace {

/// The message with which `text` is refused, "" when it is not.
std::string refusal(std::string_view text, JsonLimits limits = {}) {
  try {
    static_cast<void>(parse_json(text, "a.json", limits));
  } catch (const DataError& error) {
    return error.what();
  }
  return "";
}

#define EXPECT_REFUSED(text, words)                                                              \
  do {                                                                                           \
    const std::string message = refusal(text);                                                   \
    EXPECT_NE(message.find(words), std::string::npos) << "\"" << message << "\" for " << (text); \
    EXPECT_EQ(message.find("a.json: "), 0u) << message;                                          \
  } while (false)

TEST(JsonTest, ReadsEveryKindInOrder) {
  const Json value = parse_json(R"( {"z":[1,-2,2.5,true,null,"t\u00e9"],"a":{"b":{}},"":18446744073709551615} )", "x");
  EXPECT_EQ(value.dump(), R"({"z":[1,-2,2.5,true,null,"té"],"a":{"b":{}},"":18446744073709551615})");
  EXPECT_EQ(parse_json("7", "x"), 7);
  EXPECT_EQ(parse_json("[]", "x"), Json::array());
}

TEST(JsonTest, RefusesDuplicateKeysAtAnyLevel) {
  EXPECT_REFUSED(R"({"a":1,"b":2,"a":3})", "duplicate key \"a\", ending at byte 16");
  EXPECT_REFUSED(R"({"x":[{"a":1,"a":1}]})", "duplicate key \"a\"");
  EXPECT_REFUSED(R"({"a":1,"\u0061":1})", "duplicate key \"a\"");
  EXPECT_EQ(refusal(R"({"a":{"a":1},"b":{"a":1}})"), "");
}

TEST(JsonTest, RefusesDeepNesting) {
  const auto nested = [](int levels) {
    return std::string(static_cast<size_t>(levels), '[') + std::string(static_cast<size_t>(levels), ']');
  };
  EXPECT_EQ(refusal(nested(32)), "");
  EXPECT_REFUSED(nested(33), "more than 32 levels of nesting at byte 32");
  EXPECT_REFUSED(std::string(1'000'000, '['), "more than 32 levels");
  EXPECT_NE(refusal("{\"a\":{\"b\":1}}", {.max_depth = 1}), "");
  EXPECT_NE(refusal("[]", {.max_depth = 0}), "");
  EXPECT_EQ(refusal("1", {.max_depth = 0}), "");
}

TEST(JsonTest, RefusesLongTexts) {
  EXPECT_EQ(refusal("[1]", {.max_bytes = 3}), "");
  EXPECT_NE(refusal("[1] ", {.max_bytes = 3}).find("4 bytes where at most 3"), std::string::npos);
}

TEST(JsonTest, RefusesWhatIsNotStrictJson) {
  EXPECT_REFUSED("", "at byte 0");
  EXPECT_REFUSED("[1] x", "at byte 4");
  EXPECT_REFUSED("[1,]", "at byte 3");
  EXPECT_REFUSED("{'a':1}", "at byte 1");
  EXPECT_REFUSED("{\"a\" 1}", "at byte 5");
  EXPECT_REFUSED("[01]", "at byte 2");
  EXPECT_REFUSED("[nan]", "not valid JSON");
  EXPECT_REFUSED("[1e999]", "number overflow");
  EXPECT_REFUSED("// c\n1", "not valid JSON");
  EXPECT_REFUSED(std::string_view("{}\0garbage", 10), "a NUL character at byte 2");
  EXPECT_REFUSED("\"\xC3\x28\"", "UTF-8");
  EXPECT_REFUSED("\"\xED\xA0\x80\"", "UTF-8");
  EXPECT_REFUSED(R"("\ud800")", "surrogate");
  EXPECT_REFUSED("\"a\nb\"", "control character");
}

TEST(JsonTest, RefusalsOfHugeTokensStayShort) {
  EXPECT_LT(refusal("\"" + std::string(1'000'000, 'x')).size(), 400u);
  EXPECT_LT(refusal("{\"" + std::string(100'000, 'k') + "\":1,\"" + std::string(100'000, 'k') + "\":1}").size(), 400u);
}

TEST(JsonTest, LargeObjectsTakeLinearTime) {
  std::string text = "{";
  for (int i = 0; i < 200'000; ++i) text += "\"tensor_" + std::to_string(i) + "\":[" + std::to_string(i) + "],";
  text.back() = '}';
  const double start = test::cpu_seconds();
  EXPECT_EQ(parse_json(text, "x").size(), 200'000u);
  // A search per key would take minutes.
  EXPECT_LT(test::cpu_seconds() - start, 10);
}

TEST(JsonTest, EveryTruncationIsRefused) {
  const std::string text = R"({"name":"blocks.0","shape":[2,3],"offset":[0,24],"é":{"x":null,"y":true,"z":-1.5e3}})";
  for (size_t size = 0; size < text.size(); ++size) EXPECT_NE(refusal(text.substr(0, size)), "") << size;
  EXPECT_EQ(refusal(text), "");
}

TEST(JsonTest, FlippedBytesNeverCrashAndWhatIsReadIsJson) {
  const std::string text = R"({"name":"blocks.0","shape":[2,3],"offset":[0,24],"é":{"x":null,"y":true,"z":-1.5e3}})";
  Rng rng(1);
  for (int i = 0; i < 20'000; ++i) {
    std::string damaged = text;
    for (int64_t n = rng.below(3); n >= 0; --n) {
      damaged[static_cast<size_t>(rng.below(static_cast<int64_t>(text.size())))] = static_cast<char>(rng.below(256));
    }
    try {
      const Json value = parse_json(damaged, "x");
      EXPECT_EQ(parse_json(value.dump(), "x"), value);
    } catch (const DataError&) {
      continue;
    }
  }
}

}  // namespace
}  // namespace gato
