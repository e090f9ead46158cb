#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cuda_emulation/access_history.h"

namespace gato::cuda_emulation {

/// A block's shared memory: the dynamic part from offset 0, then the static arrays in the order in which threads first
/// ask for them, a red zone behind each.
class SharedMemory {
 public:
  static constexpr size_t kArena = 256 * 1024;
  static constexpr size_t kGranule = 2;  ///< Bytes a cell stands for: no access may be smaller.

  enum class State : uint8_t { kUnwritten, kWritten, kCopying };

  SharedMemory();

  /// Empties the memory for the block of that serial number; with `poison`, fills what the last block used with 0xff.
  void start_block(uint32_t serial, size_t dynamic_bytes, bool poison);

  /// The array of `tag` in this block, made by the first call. Null when the arena is full.
  void* array(const void* tag, const char* name, size_t bytes);

  [[nodiscard]] char* data() { return arena_.get(); }
  [[nodiscard]] bool contains(uintptr_t address) const {
    return address - reinterpret_cast<uintptr_t>(arena_.get()) < kArena;
  }
  [[nodiscard]] size_t offset(uintptr_t address) const { return address - reinterpret_cast<uintptr_t>(arena_.get()); }
  /// Whether `size` bytes from `offset` lie inside one array (or the dynamic part).
  [[nodiscard]] bool is_inside(size_t offset, size_t size) const;
  /// Bytes a device would have to provide.
  [[nodiscard]] size_t bytes_used() const { return used_; }

  /// The array that holds `offset`, or stands before it.
  struct Place {
    std::string name;  ///< "dynamic shared memory" or the array's.
    size_t begin;
    size_t bytes;
  };
  [[nodiscard]] Place place(size_t offset) const;

  [[nodiscard]] AccessHistory& history(size_t offset) { return cells_[offset / kGranule].history; }
  [[nodiscard]] State state(size_t offset) const {
    const Cell& cell = cells_[offset / kGranule];
    return cell.block == serial_ ? cell.state : State::kUnwritten;
  }
  void set_state(size_t offset, State state) {
    Cell& cell = cells_[offset / kGranule];
    cell.state = state;
    cell.block = serial_;
  }

 private:
  struct Cell {
    AccessHistory history;
    uint32_t block = 0;  ///< Serial number of the block that `state` is about: others find memory unwritten.
    State state = State::kUnwritten;
  };
  struct Array {
    const void* tag;
    const char* name;
    size_t begin;
    size_t bytes;
  };
  struct Free {
    void operator()(char* memory) const;
  };

  std::unique_ptr<char, Free> arena_;
  std::vector<Cell> cells_;
  std::vector<Array> arrays_;
  size_t dynamic_bytes_ = 0;
  size_t top_ = 0;  ///< End of the last array's red zone.
  size_t used_ = 0;
  size_t dirty_ = kArena;
  uint32_t serial_ = 0;
};

}  // namespace gato::cuda_emulation
