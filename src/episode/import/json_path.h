#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gato/core/json.h"

namespace gato::episode {

/// Where a text stands in a JSON value: "caption", "doc.body", "turns[0].text", or with one list that is gone through,
/// "qa[].question".
class JsonPath {
 public:
  /// Throws ConfigError naming `option` for a malformed path.
  JsonPath(std::string_view path, std::string_view option);

  [[nodiscard]] const std::string& text() const { return text_; }
  /// The part up to "[]" ("qa[]"); empty when there is no list.
  [[nodiscard]] const std::string& list() const { return list_; }

  /// The values there: one per item of the list, one without a list. A missing key or item is a null pointer; a missing
  /// list has no items. They belong to `json`.
  [[nodiscard]] std::vector<const Json*> find(const Json& json) const;

 private:
  struct Step {
    std::string key;  ///< Of an object, unless `index` is set.
    std::optional<size_t> index;
    bool each = false;
  };
  std::string text_, list_;
  std::vector<Step> steps_;
};

}  // namespace gato::episode
