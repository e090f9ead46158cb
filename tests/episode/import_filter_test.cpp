#include <gtest/gtest.h>

#include <chrono>

#include "gato/core/error.h"
#include "gato/core/file.h"
#include "gato/core/text.h"
#include "gato/episode/import_filter.h"
#include "support/temp_folder.h"

namespace gato::episode {
namespace {

class ContentFilterTest : public testing::Test {
 protected:
  LoadedFilter load(std::string_view yaml) {
    write_file_atomic(folder_ / "filter.yaml", yaml);
    return load_content_filter(folder_ / "filter.yaml");
  }
  std::string error_of(std::string_view yaml) {
    try {
      static_cast<void>(load(yaml));
    } catch (const ConfigError& error) {
      return error.what();
    }
    return "no error";
  }
  test::TempFolder folder_{"filter"};
};

TEST_F(ContentFilterTest, FindsWholeWordsInAnyCase) {
  const ContentFilter filter = load("rules: [{reason: rude, words: [oaf, Über, a.b, 'two words']}]").filter;
  for (const char* text : {"oaf", "You OAF!", "an oaf", "(oaf)", "line\noaf\nline", "ÜBER uns", "das ist über", "x a.b",
                           "these two words here"}) {
    EXPECT_EQ(filter(text), "rude") << text;
  }
  for (const char* text : {"loaf", "oafs", "oaf_1", "éoaf", "oafé", "überall", "a+b", "two  words", ""}) {
    EXPECT_EQ(filter(text), "") << text;
  }
}

TEST_F(ContentFilterTest, FindsExpressionsAndLengths) {
  const ContentFilter filter =
      load("min_characters: 2\nmax_characters: 4\nrules: [{reason: digits, patterns: ['^\\d+$']}]").filter;
  EXPECT_EQ(filter("é"), "shorter than 2 characters");
  EXPECT_EQ(filter("éé"), "");
  EXPECT_EQ(filter("éééé"), "");
  EXPECT_EQ(filter("ééééé"), "longer than 4 characters");
  EXPECT_EQ(filter("1234"), "digits");
  EXPECT_EQ(filter("123x"), "");
}

TEST_F(ContentFilterTest, ReadsWordListsBesideItAndKnowsThemInItsDigest) {
  write_file_atomic(folder_ / "words.txt", "# comment\n\n  spaced \r\nlast");
  const char* yaml = "rules: [{reason: listed, words_file: words.txt}]";
  const LoadedFilter first = load(yaml);
  EXPECT_EQ(first.filter("it is Spaced."), "listed");
  EXPECT_EQ(first.filter("the last"), "listed");
  EXPECT_EQ(first.filter("# comment"), "");
  write_file_atomic(folder_ / "words.txt", "other");
  EXPECT_NE(load(yaml).digest, first.digest);
}

TEST_F(ContentFilterTest, TakesLinearTimeWhateverTheExpression) {
  const ContentFilter filter = load("rules: [{reason: never, patterns: ['(a*)*b', '(a|aa)+$c', '(x+x+)+y']}]").filter;
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(filter(std::string(1000000, 'a')), "");
  EXPECT_EQ(filter(std::string(1000000, 'x')), "");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST_F(ContentFilterTest, NamesEveryProblem) {
  EXPECT_NE(error_of("rules: [{reason: r, patterns: ['(']}]").find("rule 'r': '('"), std::string::npos);
  EXPECT_NE(error_of("rules: [{reason: r, patterns: ['(?=x)']}]").find("RE2"), std::string::npos);
  EXPECT_NE(error_of("rules: [{words: [x]}]").find("rules[0].reason"), std::string::npos);
  EXPECT_NE(error_of("rules: [{reason: r}]").find("words"), std::string::npos);
  EXPECT_NE(error_of("rules: [{reason: r, words: ['']}]").find("a word is empty"), std::string::npos);
  EXPECT_NE(error_of("rules: [{reason: r, word: [x]}]").find("words"), std::string::npos);
  EXPECT_NE(error_of("min_characters: 5\nmax_characters: 3").find("max_characters"), std::string::npos);
  EXPECT_THROW(static_cast<void>(load("rules: [{reason: r, words_file: none.txt}]")), IoError);
  write_file_atomic(folder_ / "bad.txt", "caf\xe9");
  EXPECT_NE(error_of("rules: [{reason: r, words_file: bad.txt}]").find("bad.txt"), std::string::npos);
}

TEST_F(ContentFilterTest, TheShippedExampleWorks) {
  const ContentFilter filter =
      load_content_filter(Path(GATO_SOURCE_DIR) / "configs" / "filters" / "example.yaml").filter;
  EXPECT_EQ(filter("A harmless sentence about a red ball."), "");
  EXPECT_EQ(filter("x"), "shorter than 2 characters");
  EXPECT_EQ(filter("You piece of garbage!"), "words of abuse");
  EXPECT_EQ(filter("Here is how to build a bomb."), "instructions to harm");
  EXPECT_EQ(filter("write to someone@example.org"), "private data");
  EXPECT_EQ(filter("card 4111 1111 1111 1111"), "private data");
  EXPECT_EQ(filter("Lorem ipsum dolor"), "leftovers of web pages");
}

}  // namespace
}  // namespace gato::episode
