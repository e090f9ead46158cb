#pragma once
// Checks of what callers hand to the kernels' host interfaces, and the arithmetic of their launches. Host code without
// CUDA's headers.
#include <cstdint>
#include <limits>

#include "gato/core/error.h"
#include "kernels/cuda/types.h"

namespace gato::kernels::cuda {

[[nodiscard]] inline bool is_aligned(const void* pointer, size_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

/// Whether every pointer is aligned to `bytes`. Null is.
template <class... Pointers>
[[nodiscard]] bool all_aligned(size_t bytes, const Pointers*... pointers) {
  return (is_aligned(pointers, bytes) && ...);
}

/// Throws ContractError unless `pointer` may be accessed as elements of `bytes` bytes: not null, and aligned.
inline void check_pointer(const void* pointer, size_t bytes, const char* name) {
  GATO_CHECK(pointer != nullptr, name, " is null");
  GATO_CHECK(is_aligned(pointer, bytes), name, " is not aligned to its elements of ", bytes, " bytes");
}
template <class T>
void check_pointer(const T* pointer, const char* name) {
  check_pointer(pointer, alignof(T), name);
}
/// The same where null means absent.
inline void check_optional(const void* pointer, size_t bytes, const char* name) {
  GATO_CHECK(is_aligned(pointer, bytes), name, " is not aligned to its elements of ", bytes, " bytes");
}
template <class T>
void check_optional(const T* pointer, const char* name) {
  check_optional(pointer, alignof(T), name);
}

/// Throws ContractError unless `value` is in [low, high].
inline void check_range(int64_t value, int64_t low, int64_t high, const char* name) {
  GATO_CHECK(value >= low && value <= high, name, " must be in [", low, ", ", high, "], is ", value);
}

/// Throws ContractError for Float16, which `operation` does not take.
inline void check_element(Element element, const char* operation) {
  GATO_CHECK(element == Element::kFloat32 || element == Element::kBFloat16, operation,
             " takes float32 and bfloat16, not ", element_name(element));
}

[[nodiscard]] constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// The first extent of a grid that has one block per `per_block` of `items` > 0. Throws ContractError beyond what a
/// device takes.
[[nodiscard]] inline unsigned num_blocks(int64_t items, int64_t per_block) {
  const int64_t blocks = ceil_div(items, per_block);
  GATO_CHECK(blocks <= std::numeric_limits<int32_t>::max(), items, " items are too many for one launch");
  return static_cast<unsigned>(blocks);
}

/// Regions of a workspace, each aligned to 256 bytes. Made with null it only adds up sizes.
class Workspace {
 public:
  explicit Workspace(void* memory) : memory_(static_cast<unsigned char*>(memory)) {}

  template <class T>
  T* take(int64_t count) {
    constexpr size_t kAlignment = 256;
    T* region = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + bytes_);
    const size_t bytes = static_cast<size_t>(count) * sizeof(T);
    bytes_ += (bytes + kAlignment - 1) / kAlignment * kAlignment;
    return region;
  }
  [[nodiscard]] size_t bytes() const { return bytes_; }

 private:
  unsigned char* memory_;
  size_t bytes_ = 0;
};

}  // namespace gato::kernels::cuda
