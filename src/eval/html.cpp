#include "html.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "gato/core/text.h"

namespace gato::eval {

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string base64(std::string_view bytes) {
  static constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t count = std::min<size_t>(3, bytes.size() - i);
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k) group = group << 8 | (k < count ? static_cast<uint8_t>(bytes[i + k]) : 0u);
    for (size_t k = 0; k < 4; ++k) out += k <= count ? kDigits[group >> (18 - 6 * k) & 63u] : '=';
  }
  return out;
}

namespace {

constexpr double kChartWidth = 420, kChartHeight = 220, kLeft = 46, kRight = 12, kTop = 14, kBottom = 34;

struct Range {
  double low = 0, high = 1;
  void include(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

/// A step of 1, 2 or 5 times a power of ten that gives about `count` ticks.
double nice_step(double span, int count) {
  if (!(span > 0)) return 1;
  const double raw = span / count, power = std::pow(10, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (raw <= factor * power) return factor * power;
  }
  return 10 * power;
}

std::string number(double value) { return format_fixed(value, 1); }

/// Where data goes on the sheet.
struct Frame {
  Range x, y;
  [[nodiscard]] double across(double value) const {
    return kLeft + (value - x.low) / std::max(1e-12, x.high - x.low) * (kChartWidth - kLeft - kRight);
  }
  [[nodiscard]] double down(double value) const {
    return kChartHeight - kBottom - (value - y.low) / std::max(1e-12, y.high - y.low) * (kChartHeight - kTop - kBottom);
  }
};

Frame frame_of(const std::vector<Curve>& curves) {
  Frame frame;
  bool first = true;
  for (const Curve& curve : curves) {
    for (const auto& [x, y] : curve.points) {
      if (first) frame.x = {x, x}, frame.y = {0, y};
      first = false;
      frame.x.include(x);
      frame.y.include(y);
    }
  }
  frame.x.low = std::min(0.0, frame.x.low);
  const double step = nice_step(frame.y.high - frame.y.low, 4);
  frame.y.high = std::ceil(frame.y.high / step) * step;
  return frame;
}

std::string axes(const Frame& frame, const std::string& x_label) {
  std::string out;
  const double y_step = nice_step(frame.y.high - frame.y.low, 4);
  for (double y = frame.y.low; y <= frame.y.high + 1e-9; y += y_step) {
    out += cat("<line class='grid' x1='", kLeft, "' x2='", kChartWidth - kRight, "' y1='", number(frame.down(y)),
               "' y2='", number(frame.down(y)), "'/><text class='tick' text-anchor='end' x='", kLeft - 6, "' y='",
               number(frame.down(y) + 3.5), "'>", format_fixed(y, y_step < 1 ? (y_step < 0.1 ? 2 : 1) : 0), "</text>");
  }
  const double x_step = nice_step(frame.x.high - frame.x.low, 4);
  for (double x = frame.x.low; x <= frame.x.high + 1e-9; x += x_step) {
    out += cat("<text class='tick' text-anchor='middle' x='", number(frame.across(x)), "' y='",
               kChartHeight - kBottom + 15, "'>", x == 0 ? "0" : format_count(x), "</text>");
  }
  return out + cat("<text class='tick' text-anchor='end' x='", kChartWidth - kRight, "' y='", kChartHeight - 5, "'>",
                   escape_html(x_label), "</text>");
}

std::string draw_curve(const Curve& curve, const Frame& frame) {
  std::string path, dots;
  for (const auto& [x, y] : curve.points) {
    const std::string at_x = number(frame.across(x)), at_y = number(frame.down(y));
    path += cat(path.empty() ? "M" : "L", at_x, " ", at_y);
    if (curve.dots)
      dots += cat("<circle cx='", at_x, "' cy='", at_y, "' r='2.6' fill='", curve.colour, "'><title>",
                  format_fixed(y, 3), "</title></circle>");
  }
  return cat("<path fill='none' stroke='", curve.colour, "' stroke-width='1.8' stroke-linejoin='round' d='", path,
             "'/>", dots);
}

}  // namespace

std::string line_chart(const std::string& title, const std::string& x_label, const std::vector<Curve>& curves) {
  const Frame frame = frame_of(curves);
  std::string legend, lines;
  for (const Curve& curve : curves) {
    if (curve.points.empty()) continue;
    legend += cat("<span class='key'><i style='background:", curve.colour, "'></i>", escape_html(curve.name), " ",
                  format_fixed(curve.points.back().second, 3), "</span>");
    lines += draw_curve(curve, frame);
  }
  return cat("<figure class='chart'><figcaption><b>", escape_html(title), "</b>", legend,
             "</figcaption><svg viewBox='0 0 ", kChartWidth, " ", kChartHeight, "' role='img' aria-label='",
             escape_html(title), "'>", axes(frame, x_label), lines, "</svg></figure>");
}

std::string score_bars(const std::vector<ScoreBar>& bars) {
  constexpr double kNameWidth = 190, kBarWidth = 520, kLine = 30, kNumberWidth = 190;
  double most = 110;
  for (const ScoreBar& bar : bars) most = std::max({most, bar.high + 4, bar.score + 4});
  const double height = kLine * static_cast<double>(bars.size()) + 30;
  const auto across = [&](double score) { return kNameWidth + std::clamp(score, -10.0, most) / most * kBarWidth; };
  std::string out = cat("<svg class='bars' viewBox='0 0 ", kNameWidth + kBarWidth + kNumberWidth, " ", height,
                        "' role='img' aria-label='Scores by task'>");
  for (const auto& [score, label] : {std::pair<double, const char*>{0, "random"}, {50, "50"}, {100, "expert"}}) {
    out += cat("<line class='", score == 100 ? "mark" : "grid", "' x1='", number(across(score)), "' x2='",
               number(across(score)), "' y1='18' y2='", height - 8, "'/><text class='tick' text-anchor='middle' x='",
               number(across(score)), "' y='12'>", label, "</text>");
  }
  double y = 22;
  for (const ScoreBar& bar : bars) {
    const char* colour = bar.score >= 80 ? "#2a8f6a" : bar.score >= 50 ? "#c99a2e" : "#c2573f";
    const double middle = y + kLine / 2 - 3;
    out += cat("<text class='name' text-anchor='end' x='", kNameWidth - 10, "' y='", number(middle + 4), "'>",
               escape_html(bar.name), "</text>", "<rect rx='3' x='", number(std::min(across(0), across(bar.score))),
               "' y='", number(middle - 8), "' height='16' width='", number(std::abs(across(bar.score) - across(0))),
               "' fill='", colour, "'/>", "<line class='whisker' x1='", number(across(bar.low)), "' x2='",
               number(across(bar.high)), "' y1='", number(middle), "' y2='", number(middle), "'/>",
               "<text class='value' x='", kNameWidth + kBarWidth + 12, "' y='", number(middle + 4), "'>",
               format_fixed(bar.score, 1), " <tspan class='tick'>", escape_html(bar.note), "</tspan></text>");
    y += kLine;
  }
  return out + "</svg>";
}

}  // namespace gato::eval
