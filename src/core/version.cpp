#include "gato/core/version.h"

#include "gato/core/text.h"

#ifndef GATO_VERSION
#error \
    "GATO_VERSION is not defined: the build system passes the project's version (CMakeLists.txt, project(... VERSION))"
#endif

namespace gato {

std::string version() { return GATO_VERSION; }

std::string compiler_version() {
#if defined(__clang__)
  return cat("clang++ ", __clang_major__, ".", __clang_minor__, ".", __clang_patchlevel__);
#elif defined(__GNUC__)
  return cat("g++ ", __GNUC__, ".", __GNUC_MINOR__, ".", __GNUC_PATCHLEVEL__);
#else
  return "unknown compiler";
#endif
}

}  // namespace gato
