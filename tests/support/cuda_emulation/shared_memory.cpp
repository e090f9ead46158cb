#include "cuda_emulation/shared_memory.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

namespace gato::cuda_emulation {
namespace {
constexpr size_t kAlignment = 16;  // of static arrays, as GATO_SHARED promises
constexpr size_t kArenaAlignment = 1024;
constexpr size_t kRedZone = 16;
}  // namespace

void SharedMemory::Free::operator()(char* memory) const { std::free(memory); }

SharedMemory::SharedMemory() : cells_(kArena / kGranule) {
  arena_.reset(static_cast<char*>(std::aligned_alloc(kArenaAlignment, kArena)));
  if (arena_ == nullptr) throw std::bad_alloc();
}

void SharedMemory::start_block(uint32_t serial, size_t dynamic_bytes, bool poison) {
  dirty_ = std::max(dirty_, top_);
  if (poison) {
    std::memset(arena_.get(), 0xff, dirty_);
    dirty_ = 0;
  }
  serial_ = serial;
  arrays_.clear();
  dynamic_bytes_ = dynamic_bytes;
  used_ = dynamic_bytes;
  top_ = dynamic_bytes + kRedZone;
}

void* SharedMemory::array(const void* tag, const char* name, size_t bytes) {
  for (const Array& made : arrays_) {
    if (made.tag == tag) return arena_.get() + made.begin;
  }
  const size_t begin = (top_ + kAlignment - 1) / kAlignment * kAlignment;
  if (begin + bytes + kRedZone > kArena) return nullptr;
  arrays_.push_back({tag, name, begin, bytes});
  top_ = begin + bytes + kRedZone;
  used_ = (used_ + kAlignment - 1) / kAlignment * kAlignment + bytes;
  return arena_.get() + begin;
}

bool SharedMemory::is_inside(size_t offset, size_t size) const {
  if (offset < dynamic_bytes_) return offset + size <= dynamic_bytes_;
  for (const Array& made : arrays_) {
    if (offset >= made.begin && offset + size <= made.begin + made.bytes) return true;
  }
  return false;
}

SharedMemory::Place SharedMemory::place(size_t offset) const {
  Place found{"dynamic shared memory", 0, dynamic_bytes_};
  for (const Array& made : arrays_) {
    const bool nearer = made.begin <= offset || (dynamic_bytes_ == 0 && &made == &arrays_.front());
    if (nearer) found = {std::string("shared array '") + made.name + "'", made.begin, made.bytes};
  }
  return found;
}

}  // namespace gato::cuda_emulation
