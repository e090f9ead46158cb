#include "cuda_emulation/fiber.h"

#include <sys/mman.h>

#include "gato/core/error.h"

#if !defined(__x86_64__)
#error "the CUDA emulator's context switch is written for x86-64"
#endif

// Saves the registers that a call preserves, swaps stacks, restores: 8 ns, where swapcontext needs 180 for its system
// calls. Floating-point modes are shared by all fibers.
extern "C" void gato_emulation_transfer(void** from, void* to);
asm(R"(
.text
.globl gato_emulation_transfer
.type gato_emulation_transfer,@function
gato_emulation_transfer:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size gato_emulation_transfer, .-gato_emulation_transfer
)");

namespace gato::cuda_emulation {
namespace {
constexpr size_t kPage = 4096;
constexpr int kSavedRegisters = 6;
}  // namespace

FiberStacks::FiberStacks(size_t count) : bytes_(count * kStackBytes) {
  void* memory =
      mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (memory == MAP_FAILED) throw DeviceError(cat("the emulated device has no room for ", count, " stacks"));
  base_ = reinterpret_cast<uintptr_t>(memory);
  for (size_t i = 0; i < count; ++i) mprotect(reinterpret_cast<void*>(stack(i)), kPage, PROT_NONE);
}

FiberStacks::~FiberStacks() { munmap(reinterpret_cast<void*>(base_), bytes_); }

void Fiber::prepare(uintptr_t stack, void (*run)()) {
  void** top = reinterpret_cast<void**>(stack + kStackBytes - 64);
  *--top = nullptr;  // where run would return to; also what makes the stack pointer at its entry 8 modulo 16
  *--top = reinterpret_cast<void*>(run);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = nullptr;
  stack_pointer_ = top;
}

void Fiber::transfer(Fiber& from, const Fiber& to) { gato_emulation_transfer(&from.stack_pointer_, to.stack_pointer_); }

}  // namespace gato::cuda_emulation
