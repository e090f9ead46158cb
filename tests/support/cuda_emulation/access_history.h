#pragma once
#include <cstdint>

namespace gato::cuda_emulation {

/// Who accesses memory, and when: two accesses of one block are ordered when a barrier lies between, two of one warp
/// also when a __syncwarp does.
struct Accessor {
  uint32_t block;           ///< Serial number of the block, unique in the device's life and rising in time; > 0.
  uint32_t interval;        ///< Block barriers passed.
  uint32_t step;            ///< __syncwarps of the warp.
  uint16_t thread;          ///< In its block.
  bool whole_warp = false;  ///< The warp as a whole reads (ldmatrix): its own earlier writes need a __syncwarp too.
  bool atomic = false;
};

/// An earlier access that races with a new one.
struct Conflict {
  bool found = false;
  bool wrote = false;  ///< What the earlier access did.
  bool other_block = false;
  int thread = -1;  ///< Who did it; -1: several, or not known.
};

/// What happened to one granule of memory lately: enough to find that a new access is not ordered after an earlier
/// one. After Flanagan and Freund, "FastTrack" (PLDI 2009), with CUDA's barriers in place of vector clocks.
class AccessHistory {
 public:
  /// Notes a read. Accesses of blocks before `first_block` count as ordered.
  Conflict read(const Accessor& who, uint32_t first_block) {
    const Conflict conflict = write_conflict(who, first_block);
    if (read_block_ < first_block ||
        (read_block_ == who.block && !read_many_blocks_ && read_interval_ != who.interval)) {
      read_warps_ = read_lanes_ = 0;
      read_many_blocks_ = false;
      read_block_ = who.block;
      read_interval_ = who.interval;
    }
    if (read_block_ != who.block) read_many_blocks_ = true;
    const unsigned warp = who.thread / 32u;
    if (read_warps_ == 0 || read_warp_ != warp || read_step_ != who.step) {
      read_warp_ = static_cast<uint8_t>(warp);
      read_step_ = who.step;
      read_lanes_ = 0;
    }
    read_warps_ |= 1u << warp;
    read_lanes_ |= who.whole_warp ? ~0u : 1u << who.thread % 32u;
    return conflict;
  }

  /// Notes a write.
  Conflict write(const Accessor& who, uint32_t first_block) {
    Conflict conflict;
    const bool both_atomic = who.atomic && write_atomic_;
    if (!both_atomic) conflict = write_conflict(who, first_block);
    if (!conflict.found) conflict = read_conflict(who, first_block);
    const bool recent = both_atomic && write_block_ >= first_block;
    write_many_blocks_ = recent && (write_many_blocks_ || write_block_ != who.block);
    const bool many_threads =
        recent && write_block_ == who.block && write_interval_ == who.interval && write_thread_ != who.thread;
    write_block_ = who.block;
    write_interval_ = who.interval;
    write_step_ = who.step;
    write_thread_ = many_threads ? kManyThreads : who.thread;
    write_atomic_ = who.atomic;
    return conflict;
  }

  /// Serial number of the last block that wrote; 0: none.
  [[nodiscard]] uint32_t last_writer() const { return write_block_; }
  [[nodiscard]] int last_writing_thread() const { return write_thread_ == kManyThreads ? -1 : write_thread_; }

  /// Forgets all accesses, so that one mistake is not reported many times.
  void forget() {
    write_block_ = read_block_ = 0;
    write_many_blocks_ = read_many_blocks_ = write_atomic_ = false;
    read_warps_ = read_lanes_ = 0;
  }

 private:
  static constexpr uint16_t kManyThreads = 0xffff;

  [[nodiscard]] Conflict write_conflict(const Accessor& who, uint32_t first_block) const {
    if (write_block_ < first_block) return {};
    const int thread = last_writing_thread();
    if (write_block_ != who.block || write_many_blocks_) return {true, true, true, write_many_blocks_ ? -1 : thread};
    if (write_interval_ != who.interval) return {};
    if (write_thread_ == who.thread && !who.whole_warp) return {};
    const bool same_warp = thread >= 0 && thread / 32 == who.thread / 32;
    if (same_warp && write_step_ != who.step) return {};
    return {true, true, false, thread};
  }

  [[nodiscard]] Conflict read_conflict(const Accessor& who, uint32_t first_block) const {
    if (read_block_ < first_block) return {};
    if (read_block_ != who.block || read_many_blocks_) return {true, false, true, -1};
    if (read_interval_ != who.interval) return {};
    const unsigned warp = who.thread / 32u;
    if ((read_warps_ & ~(1u << warp)) != 0) return {true, false, false, read_warp_ == warp ? -1 : first_reader()};
    const uint32_t other_lanes = read_lanes_ & ~(1u << who.thread % 32u);
    if (read_warp_ != warp || read_step_ != who.step || other_lanes == 0) return {};
    return {true, false, false, static_cast<int>(warp * 32u) + __builtin_ctz(other_lanes)};
  }

  [[nodiscard]] int first_reader() const {
    return read_lanes_ == 0 ? -1 : read_warp_ * 32 + __builtin_ctz(read_lanes_);
  }

  uint32_t write_block_ = 0, write_interval_ = 0, write_step_ = 0;
  uint16_t write_thread_ = 0;
  uint8_t read_warp_ = 0;
  bool write_atomic_ : 1 = false;
  bool write_many_blocks_ : 1 = false;
  bool read_many_blocks_ : 1 = false;
  uint32_t read_block_ = 0, read_interval_ = 0, read_step_ = 0;
  uint32_t read_warps_ = 0;  ///< Warps of the block that read in the interval.
  uint32_t read_lanes_ = 0;  ///< Lanes of the last of them that read since its last __syncwarp.
};

}  // namespace gato::cuda_emulation
