#pragma once
#include <cstdint>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace gato {

/// The arguments written one after the other, as `operator<<` writes them.
template <class... Args>
[[nodiscard]] std::string cat(const Args&... args) {
  std::ostringstream out;
  static_cast<void>((out << ... << args));
  return out.str();
}

/// `items` with `separator` between them.
[[nodiscard]] std::string join(const std::vector<std::string>& items, std::string_view separator);

/// `text` cut at every `separator`; an empty text gives one empty item.
[[nodiscard]] std::vector<std::string> split(std::string_view text, char separator);

/// `text` without blanks, tabs and line ends at both sides.
[[nodiscard]] std::string_view trim(std::string_view text);

/// The candidate nearest to `word` in edit distance, or "" when none is within a third of the word's length (at least
/// 2).
[[nodiscard]] std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

/// Whether `text` matches `pattern`, where `*` stands for any run of characters and `?` for one. At most
/// |pattern| x |text| steps.
[[nodiscard]] bool matches_pattern(std::string_view pattern, std::string_view text);

/// A count for people: "917", "12.3 k", "4.91 M", "1.08 B".
[[nodiscard]] std::string format_count(double count);

/// A size for people in binary units: "917 B", "12.3 KiB", "4.91 MiB".
[[nodiscard]] std::string format_bytes(double bytes);

/// A duration for people: "0.42 s", "12 s", "3 min 05 s", "2 h 07 min".
[[nodiscard]] std::string format_seconds(double seconds);

/// `value` with `digits` digits behind the point, in the C locale.
[[nodiscard]] std::string format_fixed(double value, int digits);

/// Whether `text` is valid UTF-8 (RFC 3629: no surrogates, no overlong forms). `bad_offset`, when given, receives the
/// offset of the first byte that is not.
[[nodiscard]] bool is_valid_utf8(std::string_view text, size_t* bad_offset = nullptr);

}  // namespace gato
