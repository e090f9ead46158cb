#pragma once
#include <cstdint>
#include <optional>
#include <string>

/// What the kernel says of processes (proc(5)).
namespace gato::run {

struct ProcessStatus {
  char state = '?';    ///< R, S, D, T (stopped), t (traced), Z (ended), ...
  uint64_t start = 0;  ///< In clock ticks since the machine started.
};

/// Of process `id` on this machine; nothing when there is none.
[[nodiscard]] std::optional<ProcessStatus> process_status(int64_t id);

/// The name of this machine and of the space in which its process numbers hold: the same for two processes only if one
/// may look for the other by its number.
[[nodiscard]] std::string machine_name();

}  // namespace gato::run
