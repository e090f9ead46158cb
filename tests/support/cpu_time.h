#pragma once
#include <ctime>

namespace gato::test {

/// Processor seconds that this process has used: for limits that a busy machine must not break.
inline double cpu_seconds() { return static_cast<double>(std::clock()) / static_cast<double>(CLOCKS_PER_SEC); }

}  // namespace gato::test
