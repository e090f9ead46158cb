#pragma once
#include <cstdint>

/// How much of the mapped shards and token columns stays in the memory of this process. Blocks that were not used for
/// the longest time are given back to the system when the cap is reached; they stay valid and come back when they are
/// read again. One cap for the process, since memory is the process's. Thread-safe.
namespace gato::episode {

constexpr uint64_t kDefaultResidentCap = uint64_t{1} << 30;

/// Sets the cap in bytes (at least 4 MiB are used); it holds from the next block that is read on. Episode indexes do
/// not count: they are pinned for as long as their shard is open.
void set_resident_cap(uint64_t bytes);

struct ResidentStatistics {
  uint64_t cap_bytes = 0;
  uint64_t resident_bytes = 0;  ///< Of blocks that count against the cap.
  uint64_t pinned_bytes = 0;    ///< Of episode indexes.
  uint64_t evicted_bytes = 0;   ///< Given back since the process began.
};
[[nodiscard]] ResidentStatistics resident_statistics();

}  // namespace gato::episode
