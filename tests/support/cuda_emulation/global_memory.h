#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cuda_emulation/access_history.h"

namespace gato::cuda_emulation {

/// What is known of one granule of global memory. All zero bits is the state of new memory.
struct GlobalCell {
  AccessHistory history;
  bool written = false;
};

/// One buffer of global memory. The addresses stay reserved while it lives, also after free().
struct Allocation {
  Allocation(std::string name, size_t bytes, size_t element_bytes, bool read_only);
  ~Allocation();
  Allocation(const Allocation&) = delete;
  Allocation& operator=(const Allocation&) = delete;

  void free();                                   ///< Gives the memory back; touching the addresses crashes from now on.
  void set_written(bool written);                ///< Of every byte.
  [[nodiscard]] size_t first_unwritten() const;  ///< Offset of the first byte never written, or `bytes`.
  [[nodiscard]] bool contains(uintptr_t address, size_t size) const {
    return address >= begin && address + size <= begin + bytes;
  }

  std::string name;
  uintptr_t begin = 0;  ///< 256-byte aligned.
  size_t bytes = 0;
  unsigned granule_shift = 0;  ///< A cell stands for 1 << granule_shift bytes: the element, at most 4.
  bool read_only = false;
  bool freed = false;
  bool all_written = false;     ///< Then cells' `written` says nothing.
  GlobalCell* cells = nullptr;  ///< (bytes >> granule_shift) + 1 of them, given memory by the first touch.

 private:
  void* mapping_ = nullptr;
  size_t mapping_bytes_ = 0;
  size_t cells_bytes_ = 0;
};

/// The buffers of a device. Changed between launches only.
class GlobalMemory {
 public:
  std::shared_ptr<Allocation> allocate(std::string name, size_t bytes, size_t element_bytes, bool read_only);

  /// The buffer, also a freed one, that holds `address`; null if none does.
  [[nodiscard]] Allocation* find(uintptr_t address) const;
  /// The buffer that `address` is in front of or behind by at most 64 KiB; null if there is none.
  [[nodiscard]] Allocation* nearest(uintptr_t address) const;

 private:
  std::vector<std::shared_ptr<Allocation>> allocations_;  // by address, freed ones included
};

}  // namespace gato::cuda_emulation
