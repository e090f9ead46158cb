#include "html.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <iomanip>
#include <sstream>

#include "gato/core/file.h"
#include "gato/core/text.h"

namespace gato::eval {

namespace {

/// Length of the valid UTF-8 character at the front of `text`; 0 for none.
size_t character_length(std::string_view text) {
  for (size_t length = 1; length <= std::min<size_t>(4, text.size()); ++length) {
    if (is_valid_utf8(text.substr(0, length))) return length;
  }
  return 0;
}

bool is_control(char c) { return (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7f; }

}  // namespace

std::string escape_html(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t length = character_length(text);
    const char c = text.front();
    if (length == 0 || is_control(c)) {
      out += "\xef\xbf\xbd";
    } else if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '"') {
      out += "&quot;";
    } else if (c == '\'') {
      out += "&#39;";
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(std::max<size_t>(1, length));
  }
  return out;
}

std::string slug(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool keeps = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
    const bool is_capital = c >= 'A' && c <= 'Z';
    out += keeps ? c : is_capital ? static_cast<char>(c - 'A' + 'a') : '-';
  }
  if (out.size() > 80) out.resize(80);
  const bool is_safe = out == text && !out.empty() && out.front() != '.';
  return is_safe ? out : cat("x-", out, "-", digest128(text).substr(0, 8));
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

std::string data_uri(std::string_view type, std::string_view bytes) {
  return cat("data:", type, ";base64,", base64(bytes));
}

std::string show(const std::optional<double>& value, int digits) {
  if (!value) return "–";
  if (!std::isfinite(*value)) return "not finite";
  if (std::abs(*value) < 1e7) return format_fixed(*value, digits);
  std::ostringstream out;
  out << std::setprecision(4) << *value;
  return out.str();
}

std::string show(const std::optional<std::pair<double, double>>& interval, int digits) {
  return interval ? cat(show(interval->first, digits), " – ", show(interval->second, digits)) : "–";
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
    for (const auto& [low, high] : curve.band) {
      frame.y.include(low);
      frame.y.include(high);
    }
  }
  frame.x.low = std::min(0.0, frame.x.low);
  const double step = nice_step(frame.y.high - frame.y.low, 4);
  frame.y.high = std::ceil(frame.y.high / step) * step;
  frame.y.low = std::floor(frame.y.low / step) * step;
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

std::string draw_band(const Curve& curve, const Frame& frame) {
  if (curve.band.size() != curve.points.size() || curve.points.size() < 2) return "";
  std::string up, down;
  for (size_t i = 0; i < curve.points.size(); ++i) {
    const std::string x = number(frame.across(curve.points[i].first));
    up += cat(i == 0 ? "M" : "L", x, " ", number(frame.down(curve.band[i].second)));
    down = cat("L", x, " ", number(frame.down(curve.band[i].first)), down);
  }
  return cat("<path class='band k", curve.colour, "' d='", up, down, "Z'/>");
}

std::string draw_curve(const Curve& curve, const Frame& frame) {
  std::string path, dots;
  for (const auto& [x, y] : curve.points) {
    const std::string at_x = number(frame.across(x)), at_y = number(frame.down(y));
    path += cat(path.empty() ? "M" : "L", at_x, " ", at_y);
    if (curve.dots)
      dots += cat("<circle class='dot k", curve.colour, "' cx='", at_x, "' cy='", at_y, "' r='2.6'><title>",
                  format_fixed(y, curve.digits), "</title></circle>");
  }
  return cat(draw_band(curve, frame), "<path class='line k", curve.colour, "' d='", path, "'/>", dots);
}

/// A curve without what cannot be drawn.
Curve drawable(Curve curve) {
  const bool has_band = curve.band.size() == curve.points.size();
  Curve kept{curve.name, curve.colour, curve.dots, {}, {}, curve.digits};
  for (size_t i = 0; i < curve.points.size(); ++i) {
    const auto& [x, y] = curve.points[i];
    if (!std::isfinite(x) || !std::isfinite(y)) continue;
    kept.points.push_back(curve.points[i]);
    const bool is_sound = has_band && std::isfinite(curve.band[i].first) && std::isfinite(curve.band[i].second);
    if (has_band) kept.band.push_back(is_sound ? curve.band[i] : std::pair{y, y});
  }
  return kept;
}

}  // namespace

std::string line_chart(const std::string& title, const std::string& x_label, const std::vector<Curve>& given) {
  std::vector<Curve> curves;
  for (const Curve& curve : given) curves.push_back(drawable(curve));
  const Frame frame = frame_of(curves);
  std::string legend, lines, words;
  for (const Curve& curve : curves) {
    if (curve.points.empty()) continue;
    const std::string last = format_fixed(curve.points.back().second, curve.digits);
    legend +=
        cat("<span class='key'><i class='k", curve.colour, "'></i>", escape_html(curve.name), " ", last, "</span>");
    words += cat(words.empty() ? ": " : "; ", curve.name, " from ",
                 format_fixed(curve.points.front().second, curve.digits), " to ", last);
    lines += draw_curve(curve, frame);
  }
  return cat("<figure class='chart'><figcaption><b>", escape_html(title), "</b>", legend,
             "</figcaption><svg viewBox='0 0 ", kChartWidth, " ", kChartHeight, "' role='img' aria-label='",
             escape_html(title + words), "'>", axes(frame, x_label), lines, "</svg></figure>");
}

std::string score_bar(double score, const std::optional<std::pair<double, double>>& interval) {
  constexpr double kLow = -15, kHigh = 125;  // the style puts the marks of 0, 50 and 100 behind by these
  const auto across = [&](double value) { return std::isfinite(value) ? std::clamp(value, kLow, kHigh) - kLow : 0.0; };
  const char* level = score >= 100 ? "s4" : score >= 75 ? "s3" : score >= 50 ? "s2" : score >= 25 ? "s1" : "s0";
  const double zero = across(0), end = across(score);
  std::string out = cat("<svg class='bar' viewBox='0 0 140 16' aria-hidden='true'><rect class='", level, "' x='",
                        number(std::min(zero, end)), "' y='3' width='", number(std::max(0.6, std::abs(end - zero))),
                        "' height='10'/>");
  if (interval) {
    out += cat("<path class='whisker' d='M", number(across(interval->first)), " 8H", number(across(interval->second)),
               "'/>");
  }
  if (score > kHigh) out += "<path class='tip' d='M134 2l6 6-6 6z'/>";
  if (score < kLow) out += "<path class='tip' d='M6 2L0 8l6 6z'/>";
  return out + "</svg>";
}

}  // namespace gato::eval
