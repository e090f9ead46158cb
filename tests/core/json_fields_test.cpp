#include "gato/core/json_fields.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "gato/core/error.h"

namespace gato {
namespace {

/// The message of the DataError that `call` throws; "" when it throws none.
template <class Call>
std::string refusal(const Call& call) {
  try {
    static_cast<void>(call());
    return "";
  } catch (const DataError& error) {
    return error.what();
  }
}

const Json kObject = parse_json(
    R"({"text":"a","yes":true,"whole":7,"negative":-7,"huge":18446744073709551615,"half":0.5,"none":null,"list":[1],"map":{}})",
    "test");

TEST(JsonFieldsTest, GivesEveryType) {
  JsonFields fields(kObject, "file.json");
  EXPECT_EQ(fields.text("text"), "a");
  EXPECT_TRUE(fields.boolean("yes"));
  EXPECT_EQ(fields.integer("whole"), 7);
  EXPECT_EQ(fields.integer("negative"), -7);
  EXPECT_EQ(fields.unsigned_integer("huge"), UINT64_MAX);
  EXPECT_EQ(fields.number("half"), 0.5);
  EXPECT_EQ(fields.number("whole"), 7.0);
  EXPECT_EQ(fields.number_or_nan("half"), 0.5);
  EXPECT_TRUE(std::isnan(fields.number_or_nan("none")));
  EXPECT_EQ(fields.array("list").size(), 1u);
  EXPECT_TRUE(fields.object("map").empty());
  EXPECT_EQ(fields.choice("text", {"b", "a"}), 1u);
  EXPECT_TRUE(fields.value("none").is_null());
  EXPECT_TRUE(fields.has("whole"));
  EXPECT_FALSE(fields.has("absent"));
  EXPECT_EQ(refusal([&] { return fields.finish(), 0; }), "");
}

TEST(JsonFieldsTest, NamesPlaceAndKeyOfWhatIsWrong) {
  JsonFields fields(kObject, "file.json: entries[3]");
  EXPECT_EQ(refusal([&] { return fields.text("absent"); }), "file.json: entries[3]: the key \"absent\" is missing");
  EXPECT_EQ(refusal([&] { return fields.text("whole"); }), "file.json: entries[3]: whole: expected a text, found 7");
  EXPECT_NE(refusal([&] { return fields.boolean("whole"); }), "");
  EXPECT_NE(refusal([&] { return fields.number("text"); }), "");
  EXPECT_NE(refusal([&] { return fields.number("none"); }), "");
  EXPECT_NE(refusal([&] { return fields.number_or_nan("text"); }), "");
  EXPECT_NE(refusal([&] { return fields.integer("half"); }), "");
  EXPECT_NE(refusal([&] { return fields.integer("huge"); }), "");
  EXPECT_NE(refusal([&] { return fields.integer("whole", 8); }).find("in [8, "), std::string::npos);
  EXPECT_NE(refusal([&] { return fields.integer("whole", 0, 6); }), "");
  EXPECT_NE(refusal([&] { return fields.unsigned_integer("negative"); }), "");
  EXPECT_NE(refusal([&] { return &fields.array("map"); }), "");
  EXPECT_NE(refusal([&] { return &fields.object("list"); }), "");
  EXPECT_EQ(refusal([&] {
              return fields.choice("text", {"b", "c"});
            }),
            "file.json: entries[3]: text: expected one of b, c, found \"a\"");
  EXPECT_NE(refusal([] { return JsonFields(kObject["list"], "x").has("a"); }).find("expected an object"),
            std::string::npos);
}

TEST(JsonFieldsTest, UnknownKeysAreNamedWithTheNearest) {
  const Json object = parse_json(R"({"temprature":1})", "test");
  JsonFields fields(object, "x");
  EXPECT_FALSE(fields.has("temperature"));
  EXPECT_EQ(refusal([&] { return fields.finish(), 0; }),
            "x: unknown key \"temprature\"; did you mean \"temperature\"?");
}

}  // namespace
}  // namespace gato
