#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "gato/core/file.h"  // Path

/// What the kernel says of processes (proc(5)).
namespace gato::run {

struct ProcessStatus {
  char state = '?';    ///< R, S, D, T (stopped), t (traced), Z (ended), ...
  uint64_t start = 0;  ///< In clock ticks since the machine started.
};

/// Of process `id` on this machine; nothing when there is none, or when `proc` does not tell (not mounted, hidden, no
/// descriptor left).
[[nodiscard]] std::optional<ProcessStatus> process_status(int64_t id, const Path& proc = "/proc");

enum class ProcessLife : uint8_t { kLives, kEnded, kUnknown };

/// Whether the process that had the number `id` and began at `start` (ProcessStatus::start; 0: it could not tell) is
/// still there. kUnknown where that cannot be seen: a process that is there must never be taken for one that ended.
[[nodiscard]] ProcessLife process_life(int64_t id, uint64_t start, const Path& proc = "/proc");

/// The name of this machine and of the space in which its process numbers hold: the same for two processes only if one
/// may look for the other by its number. "" when it cannot be told: then no process may be looked for.
[[nodiscard]] std::string machine_name();

}  // namespace gato::run
