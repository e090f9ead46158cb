#include <cstdlib>
#include <filesystem>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/file.h"
#include "gato/env/suite.h"

namespace gato::env {

namespace {

bool holds_data(const Path& folder) {
  std::error_code ignored;
  return std::filesystem::is_directory(folder / "configs", ignored) &&
         std::filesystem::is_directory(folder / "data", ignored);
}

Path program_folder() {
  std::error_code ignored;
  return std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path();
}

}  // namespace

std::string data_root() {
  if (const char* setting = std::getenv("GATO_ROOT"); setting != nullptr && *setting != '\0') {
    if (!holds_data(setting)) {
      throw ConfigError(cat("GATO_ROOT is '", setting, "', but there is no folder configs/ and data/ in it."));
    }
    return setting;
  }
  const Path installed = program_folder() / ".." / "share" / "gato";
  for (const Path& folder : {installed, Path(GATO_SOURCE_DIR)}) {
    if (holds_data(folder)) return std::filesystem::weakly_canonical(folder).string();
  }
  throw ConfigError(cat("The folders configs/ and data/ were found neither in ", installed.string(), " nor in ",
                        GATO_SOURCE_DIR, ": set GATO_ROOT to the folder that holds them."));
}

}  // namespace gato::env
