#pragma once
#include <c10/core/Device.h>

#include <cstdint>
#include <new>
#include <string>

namespace gato::kernels {

/// What the caching allocator holds, in bytes. Blocks below kSmallestCachedBytes are not counted.
struct MemoryStatistics {
  int64_t in_use = 0;  ///< Of living tensors, as they asked for it.
  int64_t peak = 0;    ///< Largest in_use since the last reset_peak_memory().
  int64_t cached = 0;  ///< Of freed blocks that wait for the next request.
  int64_t system_blocks =
      0;                 ///< Blocks ever asked of the system: does not grow while training runs in its steady state.
  int64_t requests = 0;  ///< Requests ever.
};

/// A request that the system refused, even after everything cached was given back.
class OutOfMemory : public std::bad_alloc {
 public:
  explicit OutOfMemory(int64_t bytes);
  [[nodiscard]] const char* what() const noexcept override { return text_.c_str(); }
  [[nodiscard]] int64_t bytes() const { return bytes_; }  ///< Of the request.

 private:
  int64_t bytes_;
  std::string text_;
};

constexpr int64_t kSmallestCachedBytes = 16 << 10;

/// While one lives, tensors on the CPU get their memory from lists of freed blocks by size class (at most an eighth
/// larger than asked, or half as much again where a larger one waits): a training step asks for the same sizes over and
/// over, and fresh memory costs a page fault per 4 KiB, which is a third of a small model's step. Large blocks ask for
/// huge pages.
///
/// For the whole process and all threads; several may live at once. Made and destroyed while no other thread makes
/// tensors. The last one gives back what is cached and restores LibTorch's allocator; tensors may outlive it.
class CachingMemory {
 public:
  /// `max_cached`: bytes kept at most, the longest unused go first; 0: a quarter of the machine's memory.
  explicit CachingMemory(int64_t max_cached = 0);
  ~CachingMemory();
  CachingMemory(const CachingMemory&) = delete;
  CachingMemory& operator=(const CachingMemory&) = delete;
};

/// Of the CPU, or of a GPU's allocator, which is LibTorch's.
[[nodiscard]] MemoryStatistics memory_statistics(c10::Device device = c10::kCPU);
void reset_peak_memory(c10::Device device = c10::kCPU);
/// Gives all cached blocks back to the system, or to the GPU.
void release_cached_memory(c10::Device device = c10::kCPU);
/// Bytes of a GPU that nobody holds, those cached for this process counted in.
[[nodiscard]] int64_t free_gpu_memory(c10::Device device);

}  // namespace gato::kernels
