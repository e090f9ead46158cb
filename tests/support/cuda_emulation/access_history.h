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

/// What happened to one granule of memory lately: enough to find the first access that is not ordered after an earlier
/// one. After Flanagan and Freund, "FastTrack" (PLDI 2009), with CUDA's barriers in place of vector clocks.
class AccessHistory {
 public:
  /// Notes a read. Accesses of blocks before `first_block` count as ordered.
  Conflict read(const Accessor& who, uint32_t first_block) {
    Conflict conflict = write_.conflict(who, first_block);
    if (!conflict.found) conflict = atomic_.conflict(who, first_block);
    note_read(who, first_block);
    return conflict;
  }

  /// Notes a write.
  Conflict write(const Accessor& who, uint32_t first_block) {
    Conflict conflict = write_.conflict(who, first_block);
    if (!conflict.found && !who.atomic) conflict = atomic_.conflict(who, first_block);
    if (!conflict.found) conflict = read_conflict(who, first_block);
    who.atomic ? atomic_.join(who, first_block) : write_.set(who);
    return conflict;
  }

  /// The thread that last wrote otherwise than by an atomic.
  [[nodiscard]] int last_writing_thread() const { return write_.thread(); }

  /// Forgets all accesses, so that one mistake is not reported many times.
  void forget() {
    write_.block = atomic_.block = read_block_ = 0;
    atomic_.many_blocks = read_many_blocks_ = false;
    read_warps_ = read_lanes_ = 0;
  }

 private:
  /// Writes that nothing orders among themselves: one plain one, or atomics.
  struct Writes {
    // `threads` is a thread, or for atomics also "lanes of warp w" or "several warps".
    static constexpr uint16_t kLanesOf = 0x8000;
    static constexpr uint16_t kSeveralWarps = 0xffff;

    uint32_t block = 0, interval = 0, step = 0;
    uint16_t threads = 0;
    bool many_blocks = false;

    [[nodiscard]] int thread() const { return threads < kLanesOf ? threads : -1; }
    [[nodiscard]] int warp() const {
      if (threads == kSeveralWarps) return -1;
      return threads < kLanesOf ? threads / 32 : threads - kLanesOf;
    }

    [[nodiscard]] Conflict conflict(const Accessor& who, uint32_t first_block) const {
      if (block < first_block) return {};
      if (block != who.block || many_blocks) return {true, true, true, many_blocks ? -1 : thread()};
      if (interval != who.interval || (threads == who.thread && !who.whole_warp)) return {};
      if (warp() == who.thread / 32 && step != who.step) return {};
      return {true, true, false, thread()};
    }

    void set(const Accessor& who) {
      block = who.block;
      interval = who.interval;
      step = who.step;
      threads = who.thread;
      many_blocks = false;
    }

    /// Adds an atomic to those it is not ordered with.
    void join(const Accessor& who, uint32_t first_block) {
      const bool recent = block >= first_block;
      const bool blocks = recent && (many_blocks || block != who.block);
      uint16_t joined = who.thread;
      if (recent && block == who.block && interval == who.interval && threads != who.thread) {
        if (warp() != who.thread / 32) {
          joined = kSeveralWarps;
        } else if (step == who.step) {
          joined = static_cast<uint16_t>(kLanesOf + who.thread / 32);
        }
      }
      set(who);
      threads = joined;
      many_blocks = blocks;
    }
  };

  void note_read(const Accessor& who, uint32_t first_block) {
    const bool later = read_block_ == who.block && !read_many_blocks_ && read_interval_ != who.interval;
    if (read_block_ < first_block || later) {
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

  Writes write_, atomic_;
  uint32_t read_block_ = 0, read_interval_ = 0, read_step_ = 0;
  uint32_t read_warps_ = 0;  ///< Warps of the block that read in the interval.
  uint32_t read_lanes_ = 0;  ///< Lanes of the last of them that read since its last __syncwarp.
  uint8_t read_warp_ = 0;
  bool read_many_blocks_ = false;
};

}  // namespace gato::cuda_emulation
