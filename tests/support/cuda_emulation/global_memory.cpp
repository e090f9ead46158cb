#include "cuda_emulation/global_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "cuda_emulation/emulated_device.h"
#include "gato/core/error.h"

namespace gato::cuda_emulation {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kRedZone = 16 * kPage;  // addresses on both sides of a buffer that belong to nothing

size_t whole_pages(size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

void* map_memory(size_t bytes, int protection) {
  void* memory = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw DeviceError(cat("the emulated device has no room for ", bytes, " bytes"));
  return memory;
}

}  // namespace

Allocation::Allocation(std::string name_, size_t bytes_, size_t element_bytes, bool read_only_)
    : name(std::move(name_)), bytes(bytes_), read_only(read_only_) {
  const size_t granule = std::min<size_t>(4, size_t{1} << std::countr_zero(std::max<size_t>(element_bytes, 1)));
  granule_shift = static_cast<unsigned>(std::countr_zero(granule));
  const size_t body = std::max(whole_pages(bytes), kPage);
  mapping_bytes_ = body + 2 * kRedZone;
  mapping_ = map_memory(mapping_bytes_, PROT_NONE);
  char* data = static_cast<char*>(mapping_) + kRedZone;
  if (mprotect(data, body, PROT_READ | PROT_WRITE) != 0) throw DeviceError("cannot open emulated device memory");
  std::memset(data, 0xff, body);
  begin = reinterpret_cast<uintptr_t>(data);
  cells_bytes_ = ((bytes >> granule_shift) + 1) * sizeof(GlobalCell);
  cells = static_cast<GlobalCell*>(map_memory(cells_bytes_, PROT_READ | PROT_WRITE));
}

Allocation::~Allocation() {
  munmap(mapping_, mapping_bytes_);
  if (cells != nullptr) munmap(cells, cells_bytes_);
}

void Allocation::free() {
  freed = true;
  // Keeps the addresses, so that nobody else gets them and a late access is known for what it is.
  mmap(mapping_, mapping_bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  munmap(cells, cells_bytes_);
  cells = nullptr;
}

void Allocation::set_written(bool written) {
  all_written = written;
  if (!written) madvise(cells, cells_bytes_, MADV_DONTNEED);  // reads as zeros again: never written
}

size_t Allocation::first_unwritten() const {
  if (all_written) return bytes;
  for (size_t offset = 0; offset < bytes; offset += size_t{1} << granule_shift) {
    if (!cells[offset >> granule_shift].written) return offset;
  }
  return bytes;
}

std::shared_ptr<Allocation> GlobalMemory::allocate(std::string name, size_t bytes, size_t element_bytes,
                                                   bool read_only) {
  auto made = std::make_shared<Allocation>(std::move(name), bytes, element_bytes, read_only);
  const auto place = std::upper_bound(allocations_.begin(), allocations_.end(), made->begin,
                                      [](uintptr_t begin, const auto& other) { return begin < other->begin; });
  allocations_.insert(place, made);
  return made;
}

Allocation* GlobalMemory::find(uintptr_t address) const {
  auto after = std::upper_bound(allocations_.begin(), allocations_.end(), address,
                                [](uintptr_t value, const auto& other) { return value < other->begin; });
  if (after == allocations_.begin()) return nullptr;
  Allocation* candidate = std::prev(after)->get();
  return address < candidate->begin + candidate->bytes ? candidate : nullptr;
}

Allocation* GlobalMemory::nearest(uintptr_t address) const {
  for (const auto& allocation : allocations_) {
    if (address + kRedZone >= allocation->begin && address < allocation->begin + allocation->bytes + kRedZone) {
      return allocation.get();
    }
  }
  return nullptr;
}

namespace detail {

std::byte* allocation_data(const Allocation& allocation) { return reinterpret_cast<std::byte*>(allocation.begin); }
void allocation_written(Allocation& allocation, bool written) { allocation.set_written(written); }
size_t allocation_first_unwritten(const Allocation& allocation) { return allocation.first_unwritten(); }
void allocation_free(Allocation& allocation) { allocation.free(); }

void check_upload(const Allocation& allocation, size_t expected, size_t actual) {
  GATO_CHECK(expected == actual, "upload to '", allocation.name, "': ", actual, " values for ", expected, " elements");
}

}  // namespace detail
}  // namespace gato::cuda_emulation
