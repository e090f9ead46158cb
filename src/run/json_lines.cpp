#include "run/json_lines.h"

#include <nlohmann/json.hpp>
#include <string_view>

#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/core/text.h"

namespace gato::run {

int64_t for_each_json_line(const Path& path,
                           const std::function<void(const Json& line, const std::string& where)>& use) {
  if (!std::filesystem::exists(path)) return 0;
  const std::string content = read_file(path, kMaxLinesFileBytes);
  int64_t damaged = 0;
  int64_t number = 0;
  std::string first_problem;
  for (std::string_view rest = content; !rest.empty();) {
    const size_t end = rest.find('\n');
    const std::string_view text = rest.substr(0, end);
    const bool is_torn = end == std::string_view::npos;
    rest.remove_prefix(is_torn ? rest.size() : end + 1);
    ++number;
    if (trim(text).empty()) continue;
    const std::string where = cat(path.string(), ": line ", number);
    try {
      use(parse_json(text, where, {.max_bytes = kMaxLineBytes}), where);
    } catch (const DataError& error) {
      ++damaged;
      if (!is_torn && first_problem.empty()) first_problem = error.what();
    }
  }
  if (!first_problem.empty()) {
    log::warning("run", "skipped ", damaged, " damaged lines; the first: ", first_problem);
  }
  return damaged;
}

}  // namespace gato::run
