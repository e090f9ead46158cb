#pragma once
#include <chrono>

namespace gato::run {

/// Wall-clock time, as files of a run folder store it.
[[nodiscard]] inline double seconds_since_1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace gato::run
