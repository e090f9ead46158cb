#pragma once
#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gato/core/config.h"

/// A configuration with a field of every kind that gato/core/config.h reads, for its tests and its fuzz target.
namespace gato::test {

enum class Shade { kLight, kDark, kNone };
GATO_CONFIG_ENUM(Shade, 3, {"light", Shade::kLight}, {"dark", Shade::kDark}, {"none", Shade::kNone})

struct Inner {
  int64_t count = 3;
  std::optional<double> rate;
  std::vector<std::string> names;
  bool operator==(const Inner&) const = default;
};
GATO_CONFIG(Inner, GATO_FIELD(count, "How many; > 0."), GATO_FIELD(rate, "Per second."), GATO_FIELD(names, "Names."))
inline void validate_config(const Inner& config, ConfigProblems& problems) {
  if (config.count <= 0) problems.add("count", cat("must be > 0, got ", config.count));
}

/// A value with a syntax of its own: "3x4".
struct Extent {
  int64_t width = 1;
  int64_t height = 1;
  bool operator==(const Extent&) const = default;
};
inline bool parse_config_value(const ConfigNode& node, Extent& value, std::string& expected) {
  expected = "a size such as 3x4";
  const auto is_digits = [](const std::string& text) {
    return !text.empty() && text.size() < 10 && text.find_first_not_of("0123456789") == std::string::npos;
  };
  const std::vector<std::string> parts = split(node.scalar, 'x');
  if (node.kind != ConfigNode::Kind::kScalar || parts.size() != 2) return false;
  if (!is_digits(parts[0]) || !is_digits(parts[1])) return false;
  value = {std::stoll(parts[0]), std::stoll(parts[1])};
  return true;
}
inline std::string config_value_yaml(const Extent& value) { return cat(value.width, "x", value.height); }

struct EveryConfigType {
  bool flag = true;
  int64_t whole = -4;
  double number = 0.25;
  std::string text = "two words";
  Shade shade = Shade::kDark;
  Extent extent;
  std::optional<int64_t> maybe_whole = 7;
  std::optional<std::string> maybe_text;
  std::optional<Inner> maybe_inner;
  std::optional<std::vector<int64_t>> maybe_list;
  std::vector<bool> flags = {true, false};
  std::vector<int64_t> wholes;
  std::vector<double> numbers = {1, -2.5};
  std::vector<Shade> shades;
  std::vector<std::vector<std::string>> table;
  std::vector<Inner> inners = {Inner{}};
  std::vector<std::optional<int64_t>> holes;
  std::map<std::string, double> weights;
  std::map<std::string, Inner> inner_of;
  std::map<std::string, std::map<std::string, std::vector<int64_t>>> deep;
  Inner inner;
  bool operator==(const EveryConfigType&) const = default;
};
GATO_CONFIG(EveryConfigType, GATO_FIELD(flag, "Yes or no."), GATO_FIELD(whole, "A whole number."),
            GATO_FIELD(number, "A number."), GATO_FIELD(text, "Some text."), GATO_FIELD(shade, "A choice."),
            GATO_FIELD(extent, "A size."), GATO_FIELD(maybe_whole, ""), GATO_FIELD(maybe_text, ""),
            GATO_FIELD(maybe_inner, ""), GATO_FIELD(maybe_list, ""), GATO_FIELD(flags, ""), GATO_FIELD(wholes, ""),
            GATO_FIELD(numbers, ""), GATO_FIELD(shades, ""), GATO_FIELD(table, ""), GATO_FIELD(inners, ""),
            GATO_FIELD(holes, ""), GATO_FIELD(weights, ""), GATO_FIELD(inner_of, ""), GATO_FIELD(deep, ""),
            GATO_FIELD(inner, "A group."))

}  // namespace gato::test
