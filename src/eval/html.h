#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// Pieces of the report's page: text, pictures and charts as HTML and inline SVG.
namespace gato::eval {

[[nodiscard]] std::string escape_html(std::string_view text);
[[nodiscard]] std::string base64(std::string_view bytes);

/// One curve of a chart.
struct Curve {
  std::string name;
  std::string colour;
  bool dots = false;                              ///< Marks at the points: for curves with few of them.
  std::vector<std::pair<double, double>> points;  ///< (x, y), x rising.
};

/// A chart of curves over a common x axis, which is labelled in counts ("1.2 M").
[[nodiscard]] std::string line_chart(const std::string& title, const std::string& x_label,
                                     const std::vector<Curve>& curves);

/// One bar: a score in percent with its interval, 0 being random and 100 the expert (or all answers right).
struct ScoreBar {
  std::string name;
  double score = 0;
  double low = 0, high = 0;  ///< 95 % interval.
  std::string note;          ///< Shown behind the number.
};
[[nodiscard]] std::string score_bars(const std::vector<ScoreBar>& bars);

}  // namespace gato::eval
