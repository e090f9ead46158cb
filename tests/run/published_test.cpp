#include "gato/run/published.h"

#include <gtest/gtest.h>

#include <set>

#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::run {
namespace {

const Path kFolder = Path(GATO_SOURCE_DIR) / "data" / "published";

TEST(PublishedTest, TablesOfTheProjectHaveSourcesAndSenseInThem) {
  const std::vector<PublishedScores> all = read_published(kFolder);
  ASSERT_GE(all.size(), 5u);
  std::set<std::string> systems;
  for (const PublishedScores& scores : all) {
    EXPECT_TRUE(systems.insert(scores.system).second) << scores.system;
    for (const std::string& text : {scores.source, scores.table, scores.protocol}) EXPECT_FALSE(text.empty());
    EXPECT_FALSE(scores.headlines.empty() && scores.returns.empty()) << scores.system;
    for (const PublishedReturns& returns : scores.returns) {
      EXPECT_TRUE(returns.random || returns.expert) << returns.name;
      EXPECT_LT(returns.random.value_or(-1e9), returns.expert.value_or(1e9)) << returns.name;
    }
  }
  EXPECT_TRUE(read_published(kFolder / "none").empty());
}

TEST(PublishedTest, DamagedTablesAreRefused) {
  const std::string whole = read_file(kFolder / "gato.json");
  EXPECT_NO_THROW(static_cast<void>(parse_published(whole, "x")));
  for (size_t length = 0; length + 2 < whole.size(); ++length) {
    EXPECT_THROW(static_cast<void>(parse_published(whole.substr(0, length), "x")), DataError) << length;
  }
  for (size_t i = 0; i < whole.size(); ++i) {
    for (const int bit : {0, 3, 7}) {
      std::string flipped = whole;
      flipped[i] = static_cast<char>(flipped[i] ^ 1 << bit);
      try {
        static_cast<void>(parse_published(flipped, "x"));
      } catch (const DataError&) {
      }
    }
  }
}

TEST(PublishedTest, RefusalsNameFileAndKey) {
  const std::string whole = read_file(kFolder / "db1.json");
  const auto refusal = [&](const std::string& from, const std::string& to) -> std::string {
    std::string text = whole;
    text.replace(text.find(from), from.size(), to);
    try {
      static_cast<void>(parse_published(text, "db1.json"));
      return "";
    } catch (const DataError& error) {
      return error.what();
    }
  };
  EXPECT_NE(refusal("\"protocol\"", "\"protokoll\"").find("db1.json"), std::string::npos);
  EXPECT_NE(refusal("\"value\": 76", "\"value\": \"76\"").find("headlines[0]"), std::string::npos);
  EXPECT_NE(refusal("\"tasks\": 870", "\"tasks\": 0").find("tasks"), std::string::npos);
  EXPECT_NE(refusal("\"errors\": []", "\"errors\": [1]").find("errors"), std::string::npos);
  EXPECT_NE(refusal("\"version\": 1", "\"version\": 2").find("version"), std::string::npos);
}

}  // namespace
}  // namespace gato::run
