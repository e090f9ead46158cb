#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "gato/core/file.h"
#include "gato/episode/resident.h"

namespace gato::episode {

namespace detail {
/// Rises while blocks are read: what was touched in the present epoch was used lately.
inline std::atomic<uint32_t> resident_epoch{1};
}  // namespace detail

/// The blocks of one mapped file that are in memory, and when each was last used. Takes part in the process's cap.
class ResidentBlocks {
 public:
  ResidentBlocks() = default;
  ResidentBlocks(const ResidentBlocks&) = delete;
  ResidentBlocks& operator=(const ResidentBlocks&) = delete;
  ~ResidentBlocks();

  /// `payload` begins at the start of the mapping; both outlive this object. `path` is for messages.
  void open(const Path& path, std::span<const std::byte> payload, uint64_t block_bytes);

  /// To be called before a block is read. Throws IoError when the system cannot read it (tried again a few times),
  /// where reading it would have ended the process.
  void touch(uint64_t block) {
    const uint32_t stamp = stamps_[block].load(std::memory_order_relaxed);
    if (stamp == detail::resident_epoch.load(std::memory_order_relaxed) || stamp == kPinned) return;
    touch_older(block, stamp);
  }
  void pin(uint64_t block);  ///< Keeps a block in memory; it does not count against the cap.
  /// Gives a block back that was read without touch().
  void drop_if_untouched(uint64_t block) const;

 private:
  friend class ResidentCap;
  static constexpr uint32_t kPinned = 0xffffffffu;  // 0: not in memory.

  void touch_older(uint64_t block, uint32_t stamp);
  void populate(uint64_t block) const;
  /// Gives back what the system mapped beside a block that was asked for: it maps whole folios of its page cache, of up
  /// to 2 MiB, and at least a window of pages.
  void drop_around(uint64_t block) const;
  [[nodiscard]] uint64_t size_of(uint64_t block) const;
  void drop_pages(uint64_t first_block, uint64_t end_block) const;

  Path path_;
  std::span<const std::byte> payload_;
  uint64_t block_bytes_ = 0;
  std::vector<std::atomic<uint32_t>> stamps_;
  std::atomic<uint64_t> resident_{0};  // Blocks that count against the cap.
  uint64_t pinned_bytes_ = 0;
};

}  // namespace gato::episode
