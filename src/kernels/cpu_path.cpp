#include "gato/kernels/cpu_path.h"

#include <cstdlib>
#include <string_view>

#include "gato/core/error.h"

namespace gato::kernels {
namespace {

constexpr CpuPath kBestFirst[] = {CpuPath::kAvx512, CpuPath::kAvx2, CpuPath::kPlain};

const char* name_of(CpuPath path) {
  switch (path) {
    case CpuPath::kAvx512:
      return "avx512";
    case CpuPath::kAvx2:
      return "avx2";
    case CpuPath::kPlain:
      break;
  }
  return "plain";
}

CpuPath best_path() {
  for (const CpuPath path : kBestFirst) {
    if (has_cpu_path(path)) return path;
  }
  return CpuPath::kPlain;
}

CpuPath path_from(std::string_view setting) {
  for (const CpuPath path : kBestFirst) {
    if (setting != name_of(path)) continue;
    if (has_cpu_path(path)) return path;
    throw ConfigError(cat("GATO_CPU_PATH is ", setting, ", which this processor does not have (its best is ",
                          name_of(best_path()), "); unset it"));
  }
  throw ConfigError(cat("GATO_CPU_PATH is \"", setting, "\"; it may be plain, avx2 or avx512"));
}

}  // namespace

bool has_cpu_path(CpuPath path) {
#if defined(__x86_64__)
  switch (path) {
    case CpuPath::kAvx512:
      return __builtin_cpu_supports("x86-64-v4") != 0;
    case CpuPath::kAvx2:
      return __builtin_cpu_supports("x86-64-v3") != 0;
    case CpuPath::kPlain:
      break;
  }
#endif
  return path == CpuPath::kPlain;
}

void set_cpu_path(CpuPath path) {
  GATO_CHECK(has_cpu_path(path), "this processor does not have the path ", name_of(path));
  detail::g_cpu_path.store(static_cast<int>(path));
}

CpuPath detail::choose_cpu_path() {
  const char* setting = std::getenv("GATO_CPU_PATH");
  const CpuPath path = setting != nullptr && *setting != '\0' ? path_from(setting) : best_path();
  g_cpu_path.store(static_cast<int>(path));
  return path;
}

}  // namespace gato::kernels
