// Launchers' lists of hosts and of tasks per node: expanding either works within its bounds or throws ConfigError.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "gato/core/error.h"
#include "gato/core/launch.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kMaxHosts = 4096;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const auto hosts = gato::expand_host_list(text, kMaxHosts);
    if (hosts.empty() || hosts.size() > kMaxHosts) std::abort();
    for (const auto& host : hosts) {
      if (host.empty() || host.size() > 300) std::abort();
    }
  } catch (const gato::ConfigError&) {
  }
  try {
    if (gato::tasks_of_node(text, 3) < 0) std::abort();
  } catch (const gato::ConfigError&) {
  }
  return 0;
}
