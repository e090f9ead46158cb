#include "episode/import/tf_example.h"

#include <gtest/gtest.h>

#include "episode/tfds_forge.h"
#include "gato/core/error.h"

namespace gato::episode {
namespace {

using forge::example;
using forge::field;
using forge::varint;

std::vector<float> floats_of(const ExampleFeature& feature) {
  std::vector<float> out(feature.count());
  feature.copy_floats(out);
  return out;
}

std::vector<int64_t> integers_of(const ExampleFeature& feature) {
  std::vector<int64_t> out;
  feature.for_each_integer([&](int64_t value) { out.push_back(value); });
  return out;
}

std::vector<std::string> strings_of(const ExampleFeature& feature) {
  std::vector<std::string> out;
  feature.for_each_string([&](std::string_view value) { out.emplace_back(value); });
  return out;
}

std::string error_of(const std::string& record, const TfExampleLimits& limits = {}) {
  try {
    static_cast<void>(parse_tf_example(record, "test", limits));
  } catch (const DataError& error) {
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// An example with one feature "k" whose message is `feature`.
std::string with_feature(const std::string& feature) { return example({{"k", feature}}); }

std::string mixed_example() {
  return example({{"numbers", forge::floats({1.5f, -2, 0})},
                  {"counts", forge::integers({0, 1, 127, 128, -1, INT64_MIN, INT64_MAX})},
                  {"texts", forge::strings({"one", "", "three"})},
                  {"nothing", ""},
                  {"empty", forge::floats({})}});
}

TEST(TfExampleTest, ReadsEveryKindOfList) {
  const std::string record = mixed_example();
  const TfExample features = parse_tf_example(record, "test");
  ASSERT_EQ(features.size(), 5u);
  EXPECT_EQ(floats_of(features.at("numbers")), (std::vector<float>{1.5f, -2, 0}));
  EXPECT_EQ(integers_of(features.at("counts")), (std::vector<int64_t>{0, 1, 127, 128, -1, INT64_MIN, INT64_MAX}));
  EXPECT_EQ(strings_of(features.at("texts")), (std::vector<std::string>{"one", "", "three"}));
  EXPECT_EQ(features.at("nothing").kind(), ExampleKind::kNone);
  EXPECT_EQ(features.at("empty").kind(), ExampleKind::kFloats);
  EXPECT_EQ(features.at("empty").count(), 0u);
}

TEST(TfExampleTest, ReadsNumbersThatAreNotPackedAndRunsThatAreMixed) {
  const float half = 0.5f;
  const std::string four(reinterpret_cast<const char*>(&half), 4);
  const std::string unpacked = varint(1 << 3 | 5) + four;
  const std::string floats = with_feature(field(2, unpacked + field(1, four + four) + unpacked));
  EXPECT_EQ(floats_of(parse_tf_example(floats, "test").at("k")), std::vector<float>(4, 0.5f));
  const std::string integers = with_feature(
      field(3, varint(1 << 3) + varint(300) + field(1, varint(1) + varint(2)) + varint(1 << 3) + varint(7)));
  EXPECT_EQ(integers_of(parse_tf_example(integers, "test").at("k")), (std::vector<int64_t>{300, 1, 2, 7}));
}

TEST(TfExampleTest, PassesOverUnknownFieldsEverywhere) {
  const std::string unknown = field(15, "anything") + varint(9 << 3) + varint(300) + varint(10 << 3 | 1) + "12345678" +
                              varint(11 << 3 | 5) + "1234";
  const std::string list = unknown + field(1, varint(5)) + unknown;
  const std::string feature = unknown + field(3, list) + unknown;
  const std::string entry = unknown + field(1, "k") + unknown + field(2, feature) + unknown;
  const std::string record = unknown + field(1, unknown + field(1, entry) + unknown) + unknown;
  const TfExample features = parse_tf_example(record, "test");
  ASSERT_EQ(features.size(), 1u);
  EXPECT_EQ(integers_of(features.at("k")), std::vector<int64_t>{5});
}

TEST(TfExampleTest, AnEmptyRecordHasNoFeatures) { EXPECT_TRUE(parse_tf_example("", "test").empty()); }

TEST(TfExampleTest, TruncationNeverReadsBeyondTheEnd) {
  const std::string record = mixed_example();
  for (size_t length = 1; length < record.size(); ++length) {
    // Copied to its own memory, so that the address sanitizer sees a byte too many.
    const std::vector<char> cut(record.begin(), record.begin() + static_cast<ptrdiff_t>(length));
    EXPECT_THROW(static_cast<void>(parse_tf_example({cut.data(), cut.size()}, "test")), DataError) << length;
  }
}

TEST(TfExampleTest, WhatParsesCanBeReadWhateverByteIsFlipped) {
  const std::string record = mixed_example();
  for (size_t i = 0; i < 8 * record.size(); ++i) {
    std::string damaged = record;
    damaged[i / 8] = static_cast<char>(damaged[i / 8] ^ 1 << i % 8);
    try {
      for (const auto& [key, feature] : parse_tf_example(damaged, "test")) {
        size_t count = feature.count();
        if (feature.kind() == ExampleKind::kFloats) count = floats_of(feature).size();
        if (feature.kind() == ExampleKind::kIntegers) count = integers_of(feature).size();
        if (feature.kind() == ExampleKind::kBytes) count = strings_of(feature).size();
        EXPECT_EQ(count, feature.count());
      }
    } catch (const DataError&) {
    }
  }
}

TEST(TfExampleTest, MalformedRecordsAreRefusedWithKeyAndByte) {
  EXPECT_TRUE(contains(error_of(with_feature(field(2, field(1, "123")))), "not a multiple of 4"));
  EXPECT_TRUE(contains(error_of(with_feature(field(2, field(1, "123")))), "feature 'k'"));
  EXPECT_TRUE(contains(error_of(with_feature(field(3, field(1, "\x80")))), "cut off"));
  EXPECT_TRUE(contains(error_of(with_feature(field(3, field(1, std::string(11, '\x81') + '\x01')))), "longer than 10"));
  EXPECT_TRUE(contains(error_of(with_feature(field(1, varint(1 << 3) + varint(5)))), "wire type 0 in a list of byte"));
  EXPECT_TRUE(contains(error_of(with_feature(field(3, varint(1 << 3 | 5) + "1234"))), "wire type 5"));
  EXPECT_TRUE(contains(error_of(with_feature(forge::floats({1}) + forge::floats({2}))), "two lists"));
  const std::string entry = field(1, field(1, "k") + field(2, forge::floats({1})));
  EXPECT_TRUE(contains(error_of(field(1, entry + entry)), "occurs twice"));
  EXPECT_TRUE(contains(error_of(field(1, field(1, field(1, "a") + field(1, "b")))), "two keys"));
  EXPECT_TRUE(contains(error_of(varint(1 << 3 | 3)), "wire type 3"));
  EXPECT_TRUE(contains(error_of(varint(7)), "field number 0"));
  EXPECT_TRUE(contains(error_of(varint(1 << 3) + varint(1)), "where a message is expected"));
  EXPECT_TRUE(contains(error_of(varint(1 << 3 | 2) + varint(UINT64_MAX)), "where 0 are left"));
}

TEST(TfExampleTest, LimitsHold) {
  TfExampleLimits limits{.max_features = 2, .max_values = 3, .max_strings = 2};
  EXPECT_EQ(error_of(example({{"a", forge::floats({1, 2, 3})}, {"b", forge::strings({"x", "y"})}}), limits), "");
  EXPECT_NE(error_of(with_feature(forge::floats({1, 2, 3, 4})), limits), "");
  EXPECT_NE(error_of(with_feature(forge::integers({1, 2, 3, 4})), limits), "");
  EXPECT_NE(error_of(with_feature(forge::strings({"x", "y", "z"})), limits), "");
  EXPECT_NE(error_of(example({{"a", ""}, {"b", ""}, {"c", ""}}), limits), "");
}

}  // namespace
}  // namespace gato::episode
