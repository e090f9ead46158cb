#pragma once
#include <cstring>
#include <span>
#include <string>
#include <type_traits>

#include "gato/core/error.h"
#include "gato/core/file.h"

/// Snapshots of environments whose whole state is one trivially copyable struct, or that and a known count of numbers.
/// Valid inside one build of the program.
namespace gato::env {

template <class State>
[[nodiscard]] std::string pack_snapshot(const std::string& task, const State& state,
                                        std::span<const double> numbers = {}) {
  static_assert(std::is_trivially_copyable_v<State>);
  std::string bytes(sizeof(State) + numbers.size_bytes(), '\0');
  std::memcpy(bytes.data(), &state, sizeof(State));
  if (!numbers.empty()) std::memcpy(bytes.data() + sizeof(State), numbers.data(), numbers.size_bytes());
  const uint32_t checksum = crc32c(task + bytes);
  bytes.append(reinterpret_cast<const char*>(&checksum), sizeof checksum);
  return bytes;
}

/// Fills `numbers`, which has as many as were packed. DataError for anything but an unchanged snapshot of the same
/// task; `numbers` is as before then.
template <class State>
[[nodiscard]] State unpack_snapshot(const std::string& task, const std::string& snapshot,
                                    std::span<double> numbers = {}) {
  static_assert(std::is_trivially_copyable_v<State>);
  const size_t content = sizeof(State) + numbers.size_bytes();
  uint32_t checksum = 0;
  if (snapshot.size() != content + sizeof checksum) {
    throw DataError(cat("Task ", task, ": not a snapshot of this task (", snapshot.size(), " bytes, expected ",
                        content + sizeof checksum, ")."));
  }
  std::memcpy(&checksum, snapshot.data() + content, sizeof checksum);
  if (checksum != crc32c(task + snapshot.substr(0, content))) {
    throw DataError(cat("Task ", task, ": the snapshot is damaged or belongs to another task."));
  }
  State state;
  std::memcpy(&state, snapshot.data(), sizeof(State));
  if (!numbers.empty()) std::memcpy(numbers.data(), snapshot.data() + sizeof(State), numbers.size_bytes());
  return state;
}

}  // namespace gato::env
