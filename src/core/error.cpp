#include "gato/core/error.h"

#include <string_view>

namespace gato::detail {
namespace {

/// `file` from the source folder on, so that messages do not depend on where the project was built.
std::string_view project_path(std::string_view file) {
  for (const std::string_view folder : {"/src/", "/include/", "/tests/", "/tools/", "/docs/"}) {
    const size_t position = file.rfind(folder);
    if (position != std::string_view::npos) return file.substr(position + 1);
  }
  return file;
}

}  // namespace

void fail_check(const char* file, int line, const char* condition, const std::string& message) {
  throw ContractError(
      cat(project_path(file), ":", line, ": check failed: ", condition, message.empty() ? "" : ": ", message));
}

}  // namespace gato::detail
