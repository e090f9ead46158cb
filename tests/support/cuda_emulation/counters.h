#pragma once
#include <cstdint>
#include <string>

namespace gato::cuda_emulation {

/// What kernels did. A request is one memory instruction of a warp.
struct Counters {
  uint64_t blocks = 0;
  uint64_t block_barriers = 0;   ///< __syncthreads, once per block.
  uint64_t warp_operations = 0;  ///< Shuffles, votes, __syncwarp, ldmatrix and mma, once per warp.
  uint64_t mma = 0;              ///< mma.m16n8k16, once per warp: 4096 multiplications and additions each.
  uint64_t ldmatrix = 0;         ///< Once per warp.
  uint64_t atomics = 0;          ///< Once per thread.

  uint64_t global_requests = 0;
  uint64_t global_sectors = 0;        ///< Different 32-byte sectors touched by the requests: what memory moves.
  uint64_t global_ideal_sectors = 0;  ///< Sectors that the same bytes would need if they lay side by side.
  uint64_t global_bytes_read = 0;     ///< Asked for by threads, repeats included.
  uint64_t global_bytes_written = 0;

  uint64_t shared_requests = 0;
  uint64_t shared_phases = 0;  ///< Passes without conflicts: a request of 16-byte accesses has 4, of 4-byte ones 1.
  uint64_t shared_cycles = 0;  ///< Passes with conflicts: per phase the most words asked of one of the 32 banks.

  Counters& operator+=(const Counters& other);

  /// Sectors per request; 4 for full 4-byte coalescing, 16 for full 16-byte. 0 without requests.
  [[nodiscard]] double sectors_per_request() const;
  /// Sectors moved per sector needed: 1 at best. 0 without requests.
  [[nodiscard]] double sector_factor() const;
  /// Cycles per phase of shared memory: 1 without bank conflicts. 0 without requests.
  [[nodiscard]] double conflict_factor() const;
};

/// The memory instructions of one place in the source.
struct SiteCounters {
  std::string place;  ///< "file.cu:123".
  bool shared = false;
  bool write = false;
  int bytes = 0;  ///< Per thread.
  uint64_t requests = 0, lanes = 0;
  uint64_t phases = 0, cycles = 0;          ///< If shared.
  uint64_t sectors = 0, ideal_sectors = 0;  ///< If global.
};

}  // namespace gato::cuda_emulation
