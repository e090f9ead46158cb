#include "gato/core/json_fields.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "gato/core/error.h"

namespace gato {
namespace {

/// The message of the DataError that `call` throws on the fields of `text`, "" when it throws none.
template <class Call>
std::string refusal(const std::string& text, Call&& call) {
  const Json value = parse_json(text, "x");
  try {
    JsonFields fields(value, "a.json: runs[2]");
    call(fields);
  } catch (const DataError& error) {
    return error.what();
  }
  return "";
}

TEST(JsonFieldsTest, ReadsEveryType) {
  const Json value = parse_json(R"({"o":{"x":1},"a":[1],"t":"é","c":"two","b":true,"n":-1.5,"nan":null,
                                    "u":18446744073709551615,"i":-7,"i2":9})",
                                "x");
  JsonFields fields(value, "x");
  EXPECT_EQ(fields.object("o").size(), 1u);
  EXPECT_EQ(fields.array("a").size(), 1u);
  EXPECT_EQ(fields.text("t"), "é");
  EXPECT_EQ(fields.choice("c", {"one", "two"}), 1u);
  EXPECT_TRUE(fields.boolean("b"));
  EXPECT_EQ(fields.number("n"), -1.5);
  EXPECT_TRUE(std::isnan(fields.number_or_nan("nan")));
  EXPECT_EQ(fields.number_or_nan("n"), -1.5);
  EXPECT_EQ(fields.unsigned_integer("u"), ~uint64_t{0});
  EXPECT_EQ(fields.integer("i"), -7);
  EXPECT_FALSE(fields.has("none"));
  EXPECT_THROW(fields.finish(), DataError);  // nobody asked for i2
  EXPECT_TRUE(fields.has("i2"));
  EXPECT_NO_THROW(fields.finish());
}

TEST(JsonFieldsTest, RefusalsNamePlaceKeyAndWhatWasFound) {
  EXPECT_EQ(refusal("[1]", [](JsonFields&) {}), "a.json: runs[2]: expected an object, found [1]");
  const auto at_k = [](const std::string& value, auto call) { return refusal("{\"k\":" + value + "}", call); };
  EXPECT_EQ(at_k("1", [](JsonFields& f) { static_cast<void>(f.value("other")); }),
            "a.json: runs[2]: the key \"other\" is missing");
  EXPECT_EQ(at_k("1", [](JsonFields& f) { static_cast<void>(f.object("k")); }),
            "a.json: runs[2]: k: expected an object, found 1");
  EXPECT_NE(at_k("{}", [](JsonFields& f) { static_cast<void>(f.array("k")); }), "");
  EXPECT_NE(at_k("1", [](JsonFields& f) { static_cast<void>(f.text("k")); }), "");
  EXPECT_NE(at_k("0", [](JsonFields& f) { static_cast<void>(f.boolean("k")); }), "");
  EXPECT_NE(at_k("\"1\"", [](JsonFields& f) { static_cast<void>(f.number("k")); }), "");
  EXPECT_NE(at_k("null", [](JsonFields& f) { static_cast<void>(f.number("k")); }), "");
  EXPECT_NE(at_k("-1", [](JsonFields& f) { static_cast<void>(f.unsigned_integer("k")); }), "");
  EXPECT_NE(at_k("1.0", [](JsonFields& f) { static_cast<void>(f.unsigned_integer("k")); }), "");
  EXPECT_NE(at_k("1.5", [](JsonFields& f) { static_cast<void>(f.integer("k")); }), "");
  EXPECT_NE(at_k("9223372036854775808", [](JsonFields& f) { static_cast<void>(f.integer("k")); }), "");
  EXPECT_EQ(at_k("5", [](JsonFields& f) { static_cast<void>(f.integer("k", 0, 4)); }),
            "a.json: runs[2]: k: expected a whole number in [0, 4], found 5");
  EXPECT_EQ(at_k("\"three\"",
                 [](JsonFields& f) {
                   static_cast<void>(f.choice("k", {"one", "two"}));
                 }),
            "a.json: runs[2]: k: expected one of one, two, found \"three\"");
}

TEST(JsonFieldsTest, FinishSuggestsTheNearestKey) {
  EXPECT_EQ(refusal(R"({"rows":1,"stpe":2})",
                    [](JsonFields& f) {
                      static_cast<void>(f.integer("rows"));
                      static_cast<void>(f.has("step"));
                      f.finish();
                    }),
            "a.json: runs[2]: unknown key \"stpe\"; did you mean \"step\"?");
}

TEST(JsonFieldsTest, HugeValuesAreShownShort) {
  EXPECT_LT(
      refusal("{\"k\":\"" + std::string(100'000, 'x') + "\"}", [](JsonFields& f) { static_cast<void>(f.integer("k")); })
          .size(),
      200u);
}

}  // namespace
}  // namespace gato
