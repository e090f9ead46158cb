#pragma once
#include <cstring>
#include <string>
#include <type_traits>

#include "gato/core/error.h"
#include "gato/core/file.h"

/// Snapshots of environments whose whole state is one trivially copyable struct. Valid inside one build of the program.
namespace gato::env {

template <class State>
[[nodiscard]] std::string pack_snapshot(const std::string& task, const State& state) {
  static_assert(std::is_trivially_copyable_v<State>);
  std::string bytes(sizeof(State), '\0');
  std::memcpy(bytes.data(), &state, sizeof(State));
  const uint32_t checksum = crc32c(task + bytes);
  bytes.append(reinterpret_cast<const char*>(&checksum), sizeof checksum);
  return bytes;
}

/// DataError for anything but an unchanged snapshot of the same task.
template <class State>
[[nodiscard]] State unpack_snapshot(const std::string& task, const std::string& snapshot) {
  static_assert(std::is_trivially_copyable_v<State>);
  uint32_t checksum = 0;
  if (snapshot.size() != sizeof(State) + sizeof checksum) {
    throw DataError(cat("Task ", task, ": not a snapshot of this task (", snapshot.size(), " bytes, expected ",
                        sizeof(State) + sizeof checksum, ")."));
  }
  std::memcpy(&checksum, snapshot.data() + sizeof(State), sizeof checksum);
  if (checksum != crc32c(task + snapshot.substr(0, sizeof(State)))) {
    throw DataError(cat("Task ", task, ": the snapshot is damaged or belongs to another task."));
  }
  State state;
  std::memcpy(&state, snapshot.data(), sizeof(State));
  return state;
}

}  // namespace gato::env
