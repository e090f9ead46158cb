#include "gato/kernels/memory.h"

#include <c10/core/CPUAllocator.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::kernels {
namespace {

constexpr size_t kHeaderBytes = 64;            // keeps the data aligned for vectors
constexpr size_t kHugePage = size_t{2} << 20;  // of x86-64 and most AArch64 kernels
constexpr size_t kHugeFrom = size_t{4} << 20;  // blocks from here on are whole huge pages
constexpr int kStepsPerDoubling = 8;           // size classes
constexpr int kClassesToSearch = 4;            // beyond the right one: up to half as much again
constexpr uint8_t kAllocatorPriority = 1;      // above LibTorch's default

/// In front of every block's data.
struct Header {
  size_t requested;  // bytes
  size_t capacity;   // bytes of data the block can hold; 0 for small blocks, which are never cached
};
static_assert(sizeof(Header) <= kHeaderBytes);

Header* header_of(void* data) { return reinterpret_cast<Header*>(static_cast<std::byte*>(data) - kHeaderBytes); }
void* data_of(Header* header) { return reinterpret_cast<std::byte*>(header) + kHeaderBytes; }

/// The smallest size class that holds `bytes` >= kSmallestCachedBytes: 8 steps from one power of two to the next, and
/// whole huge pages (with the header) where a block is large.
size_t capacity_for(size_t bytes) {
  const size_t step = std::bit_floor(bytes) / kStepsPerDoubling;
  const size_t rounded = (bytes + step - 1) / step * step;
  if (rounded < kHugeFrom) return rounded;
  return (rounded + kHeaderBytes + kHugePage - 1) / kHugePage * kHugePage - kHeaderBytes;
}

size_t physical_memory() {
  const auto pages = sysconf(_SC_PHYS_PAGES);
  const auto page = sysconf(_SC_PAGESIZE);
  return pages > 0 && page > 0 ? static_cast<size_t>(pages) * static_cast<size_t>(page) : size_t{4} << 30;
}

/// Null when the system has no more.
Header* system_block(size_t data_bytes) {
  const size_t bytes = data_bytes + kHeaderBytes;
  const bool huge = bytes >= kHugeFrom;
  const size_t alignment = huge ? kHugePage : kHeaderBytes;
  void* memory = nullptr;
  if (posix_memalign(&memory, alignment, bytes) != 0) return nullptr;
  if (huge) static_cast<void>(madvise(memory, bytes, MADV_HUGEPAGE));  // a wish: failing changes nothing
  return static_cast<Header*>(memory);
}

class Allocator : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    if (bytes == 0) return {nullptr, nullptr, &release, c10::Device(c10::kCPU)};
    Header* header = bytes < static_cast<size_t>(kSmallestCachedBytes) ? small_block(bytes) : block(bytes);
    void* data = data_of(header);
    return {data, data, &release, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }

  void install(size_t max_cached) {
    const std::lock_guard lock(mutex_);
    max_cached_ = std::max(max_cached_, max_cached);
    if (users_++ > 0) return;
    before_ = c10::GetCPUAllocator();
    c10::SetCPUAllocator(this, kAllocatorPriority);
  }

  void uninstall() {
    const std::lock_guard lock(mutex_);
    if (--users_ > 0) return;
    if (c10::GetCPUAllocator() == this) c10::SetCPUAllocator(before_, kAllocatorPriority);
    max_cached_ = 0;
    shrink_to(0);
  }

  MemoryStatistics statistics() {
    const std::lock_guard lock(mutex_);
    return statistics_;
  }
  void reset_peak() {
    const std::lock_guard lock(mutex_);
    statistics_.peak = statistics_.in_use;
  }
  void release_cached() {
    const std::lock_guard lock(mutex_);
    shrink_to(0);
  }

  static Allocator& instance() {
    static auto* allocator = new Allocator;  // tensors may live until after main
    return *allocator;
  }

 private:
  struct Free {
    Header* header;
    uint64_t freed_at;  // in frees
  };

  static void release(void* data) {
    if (data != nullptr) instance().give_back(header_of(data));
  }

  static Header* small_block(size_t bytes) {
    Header* header = system_block(bytes);
    if (header == nullptr) throw OutOfMemory(static_cast<int64_t>(bytes));
    *header = {bytes, 0};
    return header;
  }

  Header* block(size_t bytes) {
    const size_t capacity = capacity_for(bytes);
    const std::lock_guard lock(mutex_);
    Header* header = take_cached(capacity);
    if (header == nullptr) {
      header = system_block(capacity);
      if (header == nullptr) {
        shrink_to(0);
        header = system_block(capacity);
      }
      if (header == nullptr) throw OutOfMemory(static_cast<int64_t>(bytes));
      header->capacity = capacity;
      ++statistics_.system_blocks;
    }
    header->requested = bytes;
    ++statistics_.requests;
    statistics_.in_use += static_cast<int64_t>(bytes);
    statistics_.peak = std::max(statistics_.peak, statistics_.in_use);
    return header;
  }

  /// A cached block of at least `capacity`, the one used last: it is the warmest.
  Header* take_cached(size_t capacity) {
    auto list = free_.lower_bound(capacity);
    for (int i = 0; i <= kClassesToSearch && list != free_.end(); ++i, ++list) {
      if (list->first > capacity + capacity / 2) return nullptr;
      if (list->second.empty()) continue;
      Header* header = list->second.back().header;
      list->second.pop_back();
      statistics_.cached -= static_cast<int64_t>(header->capacity);
      return header;
    }
    return nullptr;
  }

  void give_back(Header* header) {
    if (header->capacity == 0) {
      std::free(header);
      return;
    }
    const std::lock_guard lock(mutex_);
    statistics_.in_use -= static_cast<int64_t>(header->requested);
    if (users_ == 0) {
      std::free(header);
      return;
    }
    free_[header->capacity].push_back({header, ++frees_});
    statistics_.cached += static_cast<int64_t>(header->capacity);
    if (statistics_.cached > static_cast<int64_t>(max_cached_)) shrink_to(max_cached_);
  }

  /// Frees cached blocks, the longest unused first, until at most `bytes` are left.
  void shrink_to(size_t bytes) {
    while (statistics_.cached > static_cast<int64_t>(bytes)) {
      auto oldest = free_.end();
      for (auto list = free_.begin(); list != free_.end(); ++list) {
        if (list->second.empty()) continue;
        if (oldest == free_.end() || list->second.front().freed_at < oldest->second.front().freed_at) oldest = list;
      }
      Header* header = oldest->second.front().header;
      oldest->second.erase(oldest->second.begin());
      statistics_.cached -= static_cast<int64_t>(header->capacity);
      std::free(header);
    }
  }

  std::mutex mutex_;
  int users_ = 0;
  size_t max_cached_ = 0;
  c10::Allocator* before_ = nullptr;
  std::map<size_t, std::vector<Free>> free_;  // by capacity; in a list the oldest first
  uint64_t frees_ = 0;
  MemoryStatistics statistics_;
};

}  // namespace

OutOfMemory::OutOfMemory(int64_t bytes)
    : bytes_(bytes),
      text_(cat("the system has no memory for a tensor of ", format_bytes(static_cast<double>(bytes)))) {}

CachingMemory::CachingMemory(int64_t max_cached) {
  GATO_CHECK(max_cached >= 0, "cannot cache ", max_cached, " bytes");
  Allocator::instance().install(max_cached > 0 ? static_cast<size_t>(max_cached) : physical_memory() / 4);
}

CachingMemory::~CachingMemory() { Allocator::instance().uninstall(); }

MemoryStatistics memory_statistics(c10::Device device) {
  if (device.is_cpu()) return Allocator::instance().statistics();
  const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
  const auto& bytes = stats.allocated_bytes[0];  // of all sizes together
  return {.in_use = bytes.current,
          .peak = bytes.peak,
          .cached = stats.reserved_bytes[0].current - bytes.current,
          .system_blocks = stats.segment[0].allocated,
          .requests = stats.allocation[0].allocated};
}

void reset_peak_memory(c10::Device device) {
  if (device.is_cpu()) {
    Allocator::instance().reset_peak();
  } else {
    c10::getDeviceAllocator(device.type())->resetPeakStats(device.index());
  }
}

void release_cached_memory(c10::Device device) {
  if (device.is_cpu()) {
    Allocator::instance().release_cached();
  } else {
    c10::getDeviceAllocator(device.type())->emptyCache();
  }
}

int64_t free_gpu_memory(c10::Device device) {
  GATO_CHECK(!device.is_cpu(), "asked for the memory of a GPU, got the CPU");
  const auto [free, total] = c10::getDeviceAllocator(device.type())->getMemoryInfo(device.index());
  return static_cast<int64_t>(free) + memory_statistics(device).cached;
}

}  // namespace gato::kernels
