#pragma once
#include <string>
#include <string_view>

#include "gato/core/config.h"

namespace gato::detail {

/// parse_yaml; without `with_lines` the values' origin is `origin` alone, as suits a value from the command line.
[[nodiscard]] ConfigNode parse_yaml_value(std::string_view text, const std::string& origin, bool with_lines);

}  // namespace gato::detail
