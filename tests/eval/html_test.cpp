#include "eval/html.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace gato::eval {
namespace {

TEST(HtmlTest, EscapesWhatWouldBeMarkupInTextAndAttributes) {
  EXPECT_EQ(escape_html("<b a=\"1\">&'</b>"), "&lt;b a=&quot;1&quot;&gt;&amp;&#39;&lt;/b&gt;");
  EXPECT_EQ(escape_html("naïve – 中\n\t"), "naïve – 中\n\t");
  EXPECT_EQ(escape_html(std::string("a\0b\x1b", 4)),
            "a\xef\xbf\xbd"
            "b\xef\xbf\xbd");
  EXPECT_EQ(escape_html("\xff<\xe4\xb8"), "\xef\xbf\xbd&lt;\xef\xbf\xbd\xef\xbf\xbd");
}

TEST(HtmlTest, SlugsAreSafeAndDiffer) {
  EXPECT_EQ(slug("demo.grid"), "demo.grid");
  for (const std::string text :
       {"", ".", "..", "A", "a/b", "a b", "../../etc", "<script>", "é", std::string(500, 'x').c_str()}) {
    const std::string name = slug(text);
    EXPECT_LT(name.size(), 100u);
    EXPECT_EQ(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-_."), std::string::npos) << name;
    EXPECT_NE(name.front(), '.');
    EXPECT_NE(name, text);
  }
  EXPECT_NE(slug("a/b"), slug("a b"));
  EXPECT_NE(slug("A"), slug("a"));
}

TEST(HtmlTest, Base64AsInRfc4648) {
  EXPECT_EQ(base64(""), "");
  EXPECT_EQ(base64("f"), "Zg==");
  EXPECT_EQ(base64("fo"), "Zm8=");
  EXPECT_EQ(base64("foo"), "Zm9v");
  EXPECT_EQ(base64("foobar"), "Zm9vYmFy");
  EXPECT_EQ(base64("\xff\xfe"), "//4=");
}

TEST(HtmlTest, NumbersOfAnySizeAreShort) {
  EXPECT_EQ(show(std::optional<double>{}, 1), "–");
  EXPECT_EQ(show(std::optional<double>{-2.25}, 1), "-2.2");
  EXPECT_EQ(show(std::optional<double>{1e300}, 1), "1e+300");
  EXPECT_EQ(show(std::optional<double>{std::nan("")}, 1), "not finite");
  EXPECT_EQ(show(std::optional<std::pair<double, double>>{{1, 2}}, 0), "1 – 2");
}

TEST(HtmlTest, ChartsOfStrangeCurvesStayWhole) {
  const double huge = 1e300, endless = std::numeric_limits<double>::infinity();
  for (const std::vector<std::pair<double, double>>& points : {std::vector<std::pair<double, double>>{},
                                                               {{1, 2}},
                                                               {{0, 0}, {1e9, 0}},
                                                               {{0, -3}, {10, 1e6}},
                                                               {{0, std::nan("")}, {1, endless}, {2, 5}},
                                                               {{0, -huge}, {huge, huge}}}) {
    Curve curve{"training", 0, true, points, points};
    for (auto& [low, high] : curve.band) low = high - 1;
    const std::string chart = line_chart("loss <1>", "tokens", {curve});
    EXPECT_NE(chart.find("</svg></figure>"), std::string::npos);
    EXPECT_EQ(chart.find("nan"), std::string::npos);
    EXPECT_EQ(chart.find("inf"), std::string::npos);
    EXPECT_EQ(chart.find("<1>"), std::string::npos);
    EXPECT_LT(chart.size(), 20000u);
  }
}

TEST(HtmlTest, BarsEndWhereTheScaleEnds) {
  EXPECT_EQ(score_bar(50, {}).find("tip"), std::string::npos);
  EXPECT_NE(score_bar(1e9, {{1e8, 1e10}}).find("tip"), std::string::npos);
  EXPECT_NE(score_bar(-400, {{-1e300, 0}}).find("tip"), std::string::npos);
  EXPECT_NE(score_bar(50, {{40, 60}}).find("M55.0 8H75.0"), std::string::npos) << score_bar(50, {{40, 60}});
  EXPECT_NE(score_bar(99.9, {}).find("s3"), std::string::npos);
  EXPECT_NE(score_bar(100, {}).find("s4"), std::string::npos);
}

}  // namespace
}  // namespace gato::eval
