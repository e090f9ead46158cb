#pragma once
#include <string_view>

namespace gato::run {

/// Whether `name` may name a suite: it becomes part of a folder's name. 1 to 100 letters, digits, "_", "-" and ".", the
/// first not a point.
[[nodiscard]] inline bool is_suite_name(std::string_view name) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
  return !name.empty() && name.size() <= 100 && name.front() != '.' &&
         name.find_first_not_of(kAllowed) == std::string_view::npos;
}

}  // namespace gato::run
