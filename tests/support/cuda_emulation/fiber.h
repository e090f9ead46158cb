#pragma once
#include <cstddef>
#include <cstdint>

namespace gato::cuda_emulation {

/// Stack of one emulated thread. Kernels keep little on it; a guard page below turns an overflow into a crash.
inline constexpr size_t kStackBytes = 64 * 1024;

/// Memory for `count` stacks.
class FiberStacks {
 public:
  explicit FiberStacks(size_t count);
  ~FiberStacks();
  FiberStacks(const FiberStacks&) = delete;
  FiberStacks& operator=(const FiberStacks&) = delete;

  [[nodiscard]] uintptr_t stack(size_t index) const { return base_ + index * kStackBytes; }  ///< Its lowest address.

 private:
  uintptr_t base_ = 0;
  size_t bytes_ = 0;
};

/// A suspended flow of control: the saved stack pointer. Costs nothing to leave behind unfinished, for kernels own no
/// resources.
class Fiber {
 public:
  /// Prepares `run`, which must not return, on the stack that begins at `stack`.
  void prepare(uintptr_t stack, void (*run)());

  /// Suspends the running flow into `from` and goes on with `to`. On one host thread.
  static void transfer(Fiber& from, const Fiber& to);

 private:
  void* stack_pointer_ = nullptr;
};

}  // namespace gato::cuda_emulation
