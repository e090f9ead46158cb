#pragma once
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace gato::fuzz {

/// Writes `content` to a file of this process, in memory where the system has such a folder, and returns its path. One
/// name per process; removed at its end.
inline const std::string& scratch_file(std::string_view name, std::string_view content) {
  static const std::string path = [&] {
    const bool shared_memory = ::access("/dev/shm", W_OK) == 0;
    return (shared_memory ? "/dev/shm/" : "/tmp/") + std::string("gato_fuzz_") + std::to_string(::getpid()) + "_" +
           std::string(name);
  }();
  static const bool removed_at_exit = std::atexit([] { std::remove(scratch_file("", {}).c_str()); }) == 0;
  if (!removed_at_exit) std::abort();
  if (name.empty()) return path;
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) std::abort();
  const size_t written = std::fwrite(content.data(), 1, content.size(), file);
  if (std::fclose(file) != 0 || written != content.size()) std::abort();
  return path;
}

}  // namespace gato::fuzz
