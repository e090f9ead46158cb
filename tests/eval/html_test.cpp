#include "eval/html.h"

#include <gtest/gtest.h>

namespace gato::eval {
namespace {

TEST(HtmlTest, EscapesWhatWouldBeMarkup) {
  EXPECT_EQ(escape_html("<b a=\"1\">&</b>"), "&lt;b a=&quot;1&quot;&gt;&amp;&lt;/b&gt;");
}

TEST(HtmlTest, Base64AsInRfc4648) {
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("f"), "Zg==");
  EXPECT_EQ(base64("fo"), "Zm8=");
  EXPECT_EQ(base64("foo"), "Zm9v");
  EXPECT_EQ(base64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(base64("\xff\xfe"), "//4=");
}

TEST(HtmlTest, ChartsOfStrangeCurvesStayWhole) {
  for (const std::vector<std::pair<double, double>>& points :
       {std::vector<std::pair<double, double>>{}, {{1, 2}}, {{0, 0}, {1e9, 0}}, {{0, -3}, {10, 1e6}}}) {
    const std::string chart = line_chart("loss <1>", "tokens", {{"training", "#000", true, points}});
    EXPECT_NE(chart.find("</svg></figure>"), std::string::npos);
    EXPECT_EQ(chart.find("nan"), std::string::npos);
    EXPECT_EQ(chart.find("<1>"), std::string::npos);
  }
  EXPECT_NE(score_bars({{"task", -40, -60, -20, ""}, {"other", 230, 200, 260, "note"}}).find("note"),
            std::string::npos);
}

}  // namespace
}  // namespace gato::eval
