#include "episode/import/json_path.h"

#include <charconv>
#include <nlohmann/json.hpp>

#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::episode {
namespace {

[[noreturn]] void fail(std::string_view option, std::string_view path, std::string_view problem) {
  throw ConfigError(cat(option, " '", path, "': ", problem,
                        "; write a key such as text, doc.body, turns[0].text or, for a list, qa[].question"));
}

}  // namespace

JsonPath::JsonPath(std::string_view path, std::string_view option) : text_(path) {
  size_t length = 0;  // of the path so far
  for (const std::string& segment : split(path, '.')) {
    std::string_view rest = segment;
    const std::string_view key = rest.substr(0, rest.find('['));
    if (key.empty()) fail(option, path, "a key is missing");
    steps_.push_back({std::string(key), {}, false});
    rest.remove_prefix(key.size());
    while (!rest.empty()) {
      const size_t end = rest.find(']');
      if (rest.front() != '[' || end == std::string_view::npos) fail(option, path, "its brackets do not match");
      const std::string_view inside = rest.substr(1, end - 1);
      size_t index = 0;
      const auto number = std::from_chars(inside.data(), inside.data() + inside.size(), index);
      if (inside.empty()) {
        if (!list_.empty()) fail(option, path, "only one list can be gone through");
        list_ = std::string(path.substr(0, length + segment.size() - rest.size() + 2));
        steps_.push_back({{}, {}, true});
      } else if (number.ec == std::errc{} && number.ptr == inside.data() + inside.size()) {
        steps_.push_back({{}, index, false});
      } else {
        fail(option, path, cat("'", inside, "' is not a number"));
      }
      rest.remove_prefix(end + 1);
    }
    length += segment.size() + 1;
  }
}

std::vector<const Json*> JsonPath::find(const Json& json) const {
  std::vector<const Json*> found = {&json};
  for (const Step& step : steps_) {
    if (step.each) {
      const Json* list = found.front();
      found.clear();
      if (list == nullptr || !list->is_array()) return found;
      for (const Json& item : *list) found.push_back(&item);
      continue;
    }
    for (const Json*& value : found) {
      if (value == nullptr) continue;
      if (step.index) {
        value = value->is_array() && *step.index < value->size() ? &(*value)[*step.index] : nullptr;
      } else {
        const auto entry = value->is_object() ? value->find(step.key) : value->end();
        value = value->is_object() && entry != value->end() ? &*entry : nullptr;
      }
    }
  }
  return found;
}

}  // namespace gato::episode
