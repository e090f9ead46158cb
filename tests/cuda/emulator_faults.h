#pragma once
#include <string>
#include <vector>

namespace gato::emulator_tests {

/// What kernels of emulator_faults.cu work on.
struct FaultArguments {
  float* data;           ///< [n]
  const float* input;    ///< [n], read-only
  float* output;         ///< [n], not written yet
  unsigned char* bytes;  ///< [4 n]: where float* views may be misaligned
  int* counter;          ///< [1]
  int n;                 ///< 128: two blocks of 64 threads
};

/// Launches the kernel of that name: 2 blocks of 64 threads (unless it says otherwise) over `arguments`.
void run_planted(const std::string& name, const FaultArguments& arguments);

/// Names of all kernels with faults, and of all without.
[[nodiscard]] std::vector<std::string> planted_names();
[[nodiscard]] std::vector<std::string> clean_names();

}  // namespace gato::emulator_tests
