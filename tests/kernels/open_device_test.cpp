#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/kernels/device.h"

// Each case in a process of its own: the CUDA half is looked for once per process.
namespace gato::kernels {
namespace {

bool has_loaded(const std::string& library) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    if (line.find(library) != std::string::npos) return true;
  }
  return false;
}

/// Exit code 0 when opening `name` throws an error whose text holds all of `parts`.
template <class Error>
[[noreturn]] void expect_error(const std::string& name, std::initializer_list<std::string> parts) {
  try {
    (void)open_device(name);
  } catch (const Error& error) {
    for (const std::string& part : parts) {
      if (std::string(error.what()).find(part) == std::string::npos) std::exit(2);
    }
    std::exit(0);
  }
  std::exit(1);
}

TEST(OpenDeviceDeathTest, TheCpuLoadsNothingOfCuda) {
  const auto open = [] {
    setenv("GATO_CUDA_LIBRARY", "/proc/self/exe", 1);  // would not load
    const bool cpu = open_device("cpu").is_cpu();
    std::exit(cpu && !has_loaded("libgato_cuda") && !has_loaded("libtorch_cuda") && !has_loaded("libcuda.so") ? 0 : 1);
  };
  EXPECT_EXIT(open(), ::testing::ExitedWithCode(0), "");
}

TEST(OpenDeviceDeathTest, AGpuThatCannotBeHadSaysWhy) {
  const auto missing = [] {
    setenv("GATO_CUDA_LIBRARY", "/nowhere/libgato_cuda.so", 1);
    expect_error<DeviceError>("cuda", {"/nowhere/libgato_cuda.so", "preset `cuda`", "GATO_CUDA_LIBRARY"});
  };
  EXPECT_EXIT(missing(), ::testing::ExitedWithCode(0), "");
  const auto automatic = [] {
    setenv("GATO_CUDA_LIBRARY", "/nowhere/libgato_cuda.so", 1);
    std::exit(open_device("auto").is_cpu() ? 0 : 1);
  };
  EXPECT_EXIT(automatic(), ::testing::ExitedWithCode(0), "");
}

// Any library has no entries of ours; one of another version has other ones.
TEST(OpenDeviceDeathTest, ALibraryOfAnotherVersionIsRefusedAndNotCalled) {
  const auto foreign = [] {
    std::string library;
    std::ifstream maps("/proc/self/maps");
    for (std::string line; std::getline(maps, line) && library.empty();) {
      if (line.find("libc10.so") != std::string::npos) library = line.substr(line.find('/'));
    }
    setenv("GATO_CUDA_LIBRARY", library.c_str(), 1);
    expect_error<DeviceError>("cuda", {library, "another version"});
  };
  EXPECT_EXIT(foreign(), ::testing::ExitedWithCode(0), "");
}

TEST(OpenDeviceDeathTest, OtherNamesAreRefused) {
  for (const char* name : {"gpu", "cuda:", "cuda:x", "cuda:1234", "cuda0", ""}) {
    EXPECT_EXIT(expect_error<ConfigError>(name, {cat("'", name, "'"), "cuda:N"}), ::testing::ExitedWithCode(0), "")
        << name;
  }
}

}  // namespace
}  // namespace gato::kernels
