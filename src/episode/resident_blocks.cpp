#include "episode/resident_blocks.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "gato/core/error.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22  // Linux 5.14; older kernels say EINVAL.
#endif

namespace gato::episode {
namespace {

constexpr uint64_t kSmallestCap = uint64_t{4} << 20;
constexpr uint64_t kEpochsPerCap = 16;  // How finely the age of blocks is known.
constexpr uint64_t kLargestFolio = uint64_t{2} << 20;
constexpr std::array<int, 3> kRetryMilliseconds = {100, 300, 1000};

/// Other threads may have begun an epoch since `epoch` was read.
uint32_t age_of(uint32_t stamp, uint32_t epoch) { return stamp > epoch ? 0 : epoch - stamp; }

}  // namespace

/// The process's cap and the files that share it.
class ResidentCap {
 public:
  static ResidentCap& instance() {
    static auto* const cap = new ResidentCap;  // Never destroyed: files may be closed by destructors of statics.
    return *cap;
  }

  void add(ResidentBlocks* file) {
    const std::lock_guard lock(mutex_);
    files_.insert(file);
  }

  void remove(ResidentBlocks* file) {
    const std::lock_guard lock(mutex_);
    files_.erase(file);
    uint64_t bytes = 0;
    for (uint64_t block = 0; block < file->stamps_.size(); ++block) {
      const uint32_t stamp = file->stamps_[block].load(std::memory_order_relaxed);
      if (stamp != 0 && stamp != ResidentBlocks::kPinned) bytes += file->size_of(block);
    }
    resident_ -= bytes;
    pinned_ -= file->pinned_bytes_;
  }

  void admit(uint64_t bytes) {
    const uint64_t cap = cap_;
    if ((admitted_ += bytes) >= cap / kEpochsPerCap) {
      admitted_ = 0;
      // 0 and kPinned have meanings of their own; after 2^32 epochs the age of some blocks is judged wrongly once.
      uint32_t next = detail::resident_epoch.load(std::memory_order_relaxed) + 1;
      if (next == ResidentBlocks::kPinned) next = 1;
      detail::resident_epoch.store(next, std::memory_order_relaxed);
    }
    if ((resident_ += bytes) > cap) evict(cap);
  }

  void pin(uint64_t bytes, bool was_resident) {
    pinned_ += bytes;
    if (was_resident) resident_ -= bytes;
  }

  void set_cap(uint64_t bytes) { cap_ = std::max(bytes, kSmallestCap); }
  [[nodiscard]] ResidentStatistics statistics() const { return {cap_, resident_, pinned_, evicted_}; }

 private:
  /// Gives back the oldest blocks until an eighth of the cap is free.
  void evict(uint64_t cap) {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock()) return;  // Another thread is at it.
    const uint64_t target = cap - cap / 8, resident = resident_;
    if (resident <= target) return;
    uint64_t excess = resident - target;
    std::map<uint32_t, uint64_t, std::greater<>> bytes_of_age;
    for_each_resident(
        [&](const ResidentBlocks& file, uint64_t block, uint32_t age) { bytes_of_age[age] += file.size_of(block); });
    uint32_t youngest = 0;  // Blocks older than this go; of this age as many as are needed.
    uint64_t older = 0;
    for (const auto& [age, bytes] : bytes_of_age) {
      youngest = age;
      if (older + bytes >= excess) break;
      older += bytes;
    }
    uint64_t of_youngest = excess > older ? excess - older : 0;
    for (ResidentBlocks* file : files_) evict_from(*file, youngest, of_youngest);
  }

  template <class Visitor>
  void for_each_resident(const Visitor& visitor) const {
    const uint32_t epoch = detail::resident_epoch.load(std::memory_order_relaxed);
    for (ResidentBlocks* file : files_) {
      if (file->resident_.load(std::memory_order_relaxed) == 0) continue;
      for (uint64_t block = 0; block < file->stamps_.size(); ++block) {
        const uint32_t stamp = file->stamps_[block].load(std::memory_order_relaxed);
        if (stamp != 0 && stamp != ResidentBlocks::kPinned) visitor(*file, block, age_of(stamp, epoch));
      }
    }
  }

  /// Neighbouring blocks go back in one call, with the blocks between them that are not in memory anyway.
  void evict_from(ResidentBlocks& file, uint32_t youngest, uint64_t& of_youngest) {
    if (file.resident_.load(std::memory_order_relaxed) == 0) return;
    const uint32_t epoch = detail::resident_epoch.load(std::memory_order_relaxed);
    uint64_t run_begin = 0, run_end = 0;  // [begin, end), empty: no run
    for (uint64_t block = 0; block < file.stamps_.size(); ++block) {
      uint32_t stamp = file.stamps_[block].load(std::memory_order_relaxed);
      if (stamp == 0) continue;
      const uint64_t size = file.size_of(block);
      bool leaves = false;
      if (stamp != ResidentBlocks::kPinned) {
        const uint32_t age = age_of(stamp, epoch);
        leaves = age > youngest || (age == youngest && of_youngest > 0);
        if (leaves && age == youngest) of_youngest -= std::min(of_youngest, size);
      }
      if (leaves && file.stamps_[block].compare_exchange_strong(stamp, 0, std::memory_order_relaxed)) {
        if (run_begin == run_end) run_begin = block;
        run_end = block + 1;
        file.resident_ -= 1;
        resident_ -= size;
        evicted_ += size;
        continue;
      }
      file.drop_pages(run_begin, run_end);
      run_begin = run_end = 0;
    }
    file.drop_pages(run_begin, run_end);
  }

  mutable std::mutex mutex_;
  std::set<ResidentBlocks*> files_;
  std::atomic<uint64_t> cap_{kDefaultResidentCap}, resident_{0}, pinned_{0}, evicted_{0}, admitted_{0};
};

ResidentBlocks::~ResidentBlocks() {
  if (block_bytes_ != 0) ResidentCap::instance().remove(this);
}

void ResidentBlocks::open(const Path& path, std::span<const std::byte> payload, uint64_t block_bytes) {
  path_ = path;
  payload_ = payload;
  block_bytes_ = block_bytes;
  stamps_ = std::vector<std::atomic<uint32_t>>((payload.size() + block_bytes - 1) / block_bytes);
  drop_pages(0, stamps_.size());  // What reading header and footer brought in.
  ResidentCap::instance().add(this);
}

uint64_t ResidentBlocks::size_of(uint64_t block) const {
  return std::min(block_bytes_, payload_.size() - block * block_bytes_);
}

void ResidentBlocks::drop_pages(uint64_t first_block, uint64_t end_block) const {
  if (first_block >= end_block) return;
  const uint64_t begin = first_block * block_bytes_;
  const uint64_t size = std::min(end_block * block_bytes_, payload_.size()) - begin;
  // Only a hint: what is not given back stays readable, and so does what is.
  static_cast<void>(::madvise(const_cast<std::byte*>(payload_.data() + begin), size, MADV_DONTNEED));
}

void ResidentBlocks::populate(uint64_t block) const {
  const uint64_t offset = block * block_bytes_;
  for (size_t attempt = 0;; ++attempt) {
    if (::madvise(const_cast<std::byte*>(payload_.data() + offset), size_of(block), MADV_POPULATE_READ) == 0) return;
    const int problem = errno;
    if (problem == EINTR) continue;
    if (problem != EFAULT && problem != EIO && problem != EHWPOISON) return;  // An older kernel: read as it comes.
    if (attempt == kRetryMilliseconds.size()) {
      throw IoError(
          cat(path_.string(), ", offset ", offset, ": the system cannot read ", size_of(block), " bytes here (tried ",
              attempt + 1, " times): the disk failed, or the file was cut short while it was in use"),
          problem == EFAULT ? EIO : problem);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(kRetryMilliseconds[attempt]));
  }
}

void ResidentBlocks::touch_older(uint64_t block, uint32_t stamp) {
  const uint32_t epoch = detail::resident_epoch.load(std::memory_order_relaxed);
  while (stamp != 0) {
    if (stamps_[block].compare_exchange_weak(stamp, epoch, std::memory_order_relaxed) || stamp == kPinned) return;
  }
  populate(block);
  drop_around(block);
  if (!stamps_[block].compare_exchange_strong(stamp, epoch, std::memory_order_relaxed)) return;  // Another thread did.
  resident_ += 1;
  ResidentCap::instance().admit(size_of(block));
}

void ResidentBlocks::pin(uint64_t block) {
  populate(block);
  drop_around(block);
  const uint32_t before = stamps_[block].exchange(kPinned, std::memory_order_relaxed);
  if (before == kPinned) return;
  if (before != 0) resident_ -= 1;
  pinned_bytes_ += size_of(block);
  ResidentCap::instance().pin(size_of(block), before != 0);
}

void ResidentBlocks::drop_around(uint64_t block) const {
  const uint64_t reach = kLargestFolio / block_bytes_;
  const uint64_t first = block - std::min(block, reach), end = std::min(block + reach + 1, stamps_.size());
  uint64_t run = first;  // where a run of blocks that are not in use begins
  for (uint64_t i = first; i < end; ++i) {
    if (i != block && stamps_[i].load(std::memory_order_relaxed) == 0) continue;
    drop_pages(run, i);
    run = i + 1;
  }
  drop_pages(run, end);
}

void ResidentBlocks::drop_if_untouched(uint64_t block) const {
  if (stamps_[block].load(std::memory_order_relaxed) == 0) drop_pages(block, block + 1);
  drop_around(block);
}

void set_resident_cap(uint64_t bytes) { ResidentCap::instance().set_cap(bytes); }
ResidentStatistics resident_statistics() { return ResidentCap::instance().statistics(); }

}  // namespace gato::episode
