#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace gato {

/// JSON that keeps the order of keys. Include <nlohmann/json.hpp> in the .cpp that uses it.
using Json = nlohmann::ordered_json;

struct JsonLimits {
  size_t max_bytes = size_t{64} << 20;  ///< Longer texts are refused before parsing.
  int max_depth = 32;                   ///< Levels of nesting.
};

/// Parses strict JSON. Throws DataError naming `origin` and the byte offset for syntax errors, duplicate keys, too deep
/// nesting, trailing content and invalid UTF-8.
[[nodiscard]] Json parse_json(std::string_view text, const std::string& origin, JsonLimits limits = {});

}  // namespace gato
