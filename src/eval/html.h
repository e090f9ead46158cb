#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// Pieces of the report's pages: text, pictures and charts as HTML and inline SVG. Colours are classes of the page's
/// style (k0 .. k5), so that they follow light and dark.
namespace gato::eval {

/// `text` as HTML text or as an attribute in quotes of either kind. Bytes that are no UTF-8 and control characters
/// other than line ends and tabs become U+FFFD.
[[nodiscard]] std::string escape_html(std::string_view text);
/// `text` as a name for files, anchors and links: lower-case letters, digits, "-", "_" and ".", and where anything had
/// to be changed a hash behind it, so that different texts have different names.
[[nodiscard]] std::string slug(std::string_view text);
[[nodiscard]] std::string base64(std::string_view bytes);
/// A file as a data: URI of the type, such as "image/gif".
[[nodiscard]] std::string data_uri(std::string_view type, std::string_view bytes);

/// `value`, or a dash where there is none. Very large and small numbers are written with an exponent.
[[nodiscard]] std::string show(const std::optional<double>& value, int digits);
/// "low – high", or a dash.
[[nodiscard]] std::string show(const std::optional<std::pair<double, double>>& interval, int digits);

/// One curve of a chart.
struct Curve {
  std::string name;
  int colour = 0;                                 ///< In 0 .. 5.
  bool dots = false;                              ///< Marks at the points: for curves with few of them.
  std::vector<std::pair<double, double>> points;  ///< (x, y), x rising; those that are not finite are left out.
  /// Intervals of y around the points, drawn as a band; empty, or one per point.
  std::vector<std::pair<double, double>> band = {};
  int digits = 3;  ///< Of numbers in words.
};

/// A chart of curves over a common x axis, which is labelled in counts ("1.2 M").
[[nodiscard]] std::string line_chart(const std::string& title, const std::string& x_label,
                                     const std::vector<Curve>& curves);

/// A bar for a line of a table: a score in percent with its interval, over marks for random play (0), half of the
/// expert and the expert (100). What is beyond -15 .. 125 ends there with a tip. Decoration: the numbers stand beside
/// it.
[[nodiscard]] std::string score_bar(double score, const std::optional<std::pair<double, double>>& interval);

}  // namespace gato::eval
