#include "gato/core/text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace gato {
namespace {

/// Words longer than this get no suggestion: edit distance costs the product of the lengths.
constexpr size_t kLongestSuggestedWord = 64;

/// Edits (insert, delete, replace, swap of neighbours) that turn `a` into `b`.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before_previous(b.size() + 1);
  std::vector<size_t> previous(b.size() + 1);
  std::vector<size_t> current(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) previous[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    current[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replace = previous[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1);
      current[j] = std::min({previous[j] + 1, current[j - 1] + 1, replace});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        current[j] = std::min(current[j], before_previous[j - 2] + 1);
      }
    }
    std::swap(before_previous, previous);
    std::swap(previous, current);
  }
  return previous[b.size()];
}

/// Digits behind the point that give three significant digits of a value in [1, 1000).
int digits_for_three(double value) {
  if (value < 9.995) return 2;
  return value < 99.95 ? 1 : 0;
}

/// `value` divided by `base` until it is short enough, three significant digits, and the unit.
std::string scaled(double value, double base, const std::array<const char*, 6>& units) {
  if (!std::isfinite(value)) return cat(value);
  const double sign = value < 0 ? -1 : 1;
  double size = std::abs(value);
  size_t unit = 0;
  // 999.5 would be printed as 1000, so it belongs to the next unit already.
  while (size >= (base == 1000 ? 999.5 : base - 0.5) && unit + 1 < units.size()) {
    size /= base;
    ++unit;
  }
  const int digits = unit == 0 ? 0 : digits_for_three(size);
  const std::string number = format_fixed(sign * size, digits);
  return *units[unit] == '\0' ? number : number + " " + units[unit];
}

/// Length of the well-formed UTF-8 sequence at the start of `text` (not empty), 0 when it is not one.
size_t utf8_sequence_length(std::string_view text) {
  const auto byte = [&](size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  const auto follows = [&](size_t i) { return (byte(i) & 0xC0u) == 0x80u; };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xC2) return 0;  // a continuation byte, or an overlong form of ASCII
  if (lead < 0xE0) return follows(1) ? 2 : 0;
  if (lead < 0xF0) {
    if (!follows(1) || !follows(2)) return 0;
    if (lead == 0xE0 && byte(1) < 0xA0) return 0;   // overlong
    if (lead == 0xED && byte(1) >= 0xA0) return 0;  // surrogates
    return 3;
  }
  if (lead > 0xF4 || !follows(1) || !follows(2) || !follows(3)) return 0;
  if (lead == 0xF0 && byte(1) < 0x90) return 0;   // overlong
  if (lead == 0xF4 && byte(1) >= 0x90) return 0;  // beyond U+10FFFF
  return 4;
}

}  // namespace

std::string join(const std::vector<std::string>& items, std::string_view separator) {
  std::string out;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out += separator;
    out += items[i];
  }
  return out;
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> items;
  while (true) {
    const size_t end = text.find(separator);
    items.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) return items;
    text.remove_prefix(end + 1);
  }
}

std::string_view trim(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r\n";
  const size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  if (word.empty() || word.size() > kLongestSuggestedWord) return "";
  size_t best_distance = std::max<size_t>(2, word.size() / 3) + 1;
  std::string best;
  for (const std::string& candidate : candidates) {
    if (candidate.size() > 2 * kLongestSuggestedWord) continue;
    const size_t distance = edit_distance(word, candidate);
    // A word of which nothing is left is no suggestion ("a" for "bc").
    if (distance < best_distance && distance < std::max(word.size(), candidate.size())) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

bool matches_pattern(std::string_view pattern, std::string_view text) {
  size_t p = 0;
  size_t t = 0;
  size_t star = std::string_view::npos;  // the last '*' seen, and where the text was then
  size_t star_text = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_text = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++star_text;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

std::string format_count(double count) { return scaled(count, 1000, {"", "k", "M", "B", "T", "Q"}); }

std::string format_bytes(double bytes) { return scaled(bytes, 1024, {"B", "KiB", "MiB", "GiB", "TiB", "PiB"}); }

std::string format_seconds(double seconds) {
  if (!std::isfinite(seconds)) return "unknown time";
  if (seconds < 0) return "-" + format_seconds(-seconds);
  if (seconds < 9.995) return format_fixed(seconds, 2) + " s";
  if (seconds < 59.5) return format_fixed(seconds, 0) + " s";
  if (seconds > 1e15) return format_count(seconds / 3600) + " h";
  const auto two_digits = [](int64_t value) { return (value < 10 ? "0" : "") + std::to_string(value); };
  const auto whole = static_cast<int64_t>(std::llround(seconds));
  if (whole < 3600) return cat(whole / 60, " min ", two_digits(whole % 60), " s");
  const int64_t minutes = (whole + 30) / 60;
  return cat(minutes / 60, " h ", two_digits(minutes % 60), " min");
}

std::string format_fixed(double value, int digits) {
  std::array<char, 512> buffer{};  // the longest double has 309 digits before the point
  const int precision = std::clamp(digits, 0, 100);
  const auto result =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::fixed, precision);
  return {buffer.data(), result.ptr};
}

bool is_valid_utf8(std::string_view text, size_t* bad_offset) {
  size_t offset = 0;
  while (offset < text.size()) {
    const size_t length = utf8_sequence_length(text.substr(offset, 4));
    if (length == 0) {
      if (bad_offset != nullptr) *bad_offset = offset;
      return false;
    }
    offset += length;
  }
  return true;
}

}  // namespace gato
