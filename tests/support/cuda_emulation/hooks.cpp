// Kernels are compiled with -fsanitize=thread, which puts a call before every memory access. In place of that
// sanitizer's runtime, these are its callbacks: accesses go to the emulator. Compilers split wide accesses and merge
// narrow ones as they like, so vectors go through the functions of kernels/cuda/ptx.h.
//
// Likewise the undefined-behaviour sanitizer's callbacks: what is undefined in C++ is undefined in a kernel.
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "cuda_emulation/machine.h"
#include "gato/core/text.h"

namespace gato::cuda_emulation {
namespace {

void on_access(const void* pointer, int bytes, bool write, const void* return_address) {
  Thread* thread = Block::in_kernel();
  if (thread == nullptr) return;
  const uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
  if (address - thread->stack < kStackBytes) return;
  const Instruction instruction;
  // The call's own address: the one behind it may belong to the next line.
  thread->block->access(*thread, address, bytes, write, Site::at(static_cast<const char*>(return_address) - 1));
}

// A copy of a structure: in words where that is possible.
void on_range(const void* pointer, size_t size, bool write, const void* return_address) {
  if (Block::in_kernel() == nullptr) return;
  uintptr_t address = reinterpret_cast<uintptr_t>(pointer);
  while (size > 0) {
    const size_t step = address % 4 == 0 && size >= 4 ? 4 : address % 2 == 0 && size >= 2 ? 2 : 1;
    on_access(reinterpret_cast<const void*>(address), static_cast<int>(step), write, return_address);
    address += step;
    size -= step;
  }
}

/// How the compiler begins the data of every check: the place in the source.
struct CheckedPlace {
  const char* file;
  uint32_t line;
  uint32_t column;
};

/// Ends the launch, since what follows would touch memory that is not the kernel's. In host code of kernel files there
/// is no launch to end: the program stops. The message is put together here, for the standard library may be
/// instrumented.
void on_undefined(const void* data, FaultKind kind, const char* before, uintptr_t value = 0,
                  const char* after = nullptr) {
  const CheckedPlace& place = *static_cast<const CheckedPlace*>(data);
  Thread* thread = Block::in_kernel();
  if (thread == nullptr) {
    std::fprintf(stderr, "%s:%u: undefined behaviour: %s\n", place.file, place.line, before);
    std::abort();
  }
  const Instruction instruction;
  const std::string what = after == nullptr ? std::string(before) : cat(before, static_cast<intptr_t>(value), after);
  thread->block->report({kind, what, Site::here(place.file, place.line), "", 0}, true);
}

}  // namespace
}  // namespace gato::cuda_emulation

#define GATO_CALLER __builtin_return_address(0)
#define GATO_HOOK(name, bytes, write) \
  void name(void* p) { gato::cuda_emulation::on_access(p, bytes, write, GATO_CALLER); }
#define GATO_HOOK_BOTH(name, bytes)                                \
  void name(void* p) {                                             \
    gato::cuda_emulation::on_access(p, bytes, false, GATO_CALLER); \
    gato::cuda_emulation::on_access(p, bytes, true, GATO_CALLER);  \
  }
#define GATO_HOOKS(bytes)                               \
  GATO_HOOK(__tsan_read##bytes, bytes, false)           \
  GATO_HOOK(__tsan_write##bytes, bytes, true)           \
  GATO_HOOK(__tsan_unaligned_read##bytes, bytes, false) \
  GATO_HOOK(__tsan_unaligned_write##bytes, bytes, true) \
  GATO_HOOK(__tsan_volatile_read##bytes, bytes, false)  \
  GATO_HOOK(__tsan_volatile_write##bytes, bytes, true)  \
  GATO_HOOK_BOTH(__tsan_read_write##bytes, bytes)       \
  GATO_HOOK_BOTH(__tsan_unaligned_read_write##bytes, bytes)

extern "C" {
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_update(void**, void*) {}
void __tsan_vptr_read(void**) {}
GATO_HOOKS(1)
GATO_HOOKS(2)
GATO_HOOKS(4)
GATO_HOOKS(8)
GATO_HOOKS(16)
void __tsan_read_range(void* p, size_t size) { gato::cuda_emulation::on_range(p, size, false, GATO_CALLER); }
void __tsan_write_range(void* p, size_t size) { gato::cuda_emulation::on_range(p, size, true, GATO_CALLER); }

// Calls in kernels of the functions without the prefix: language.h.
void* gato_emulation_memcpy(void* to, const void* from, size_t size) {
  gato::cuda_emulation::on_range(from, size, false, GATO_CALLER);
  gato::cuda_emulation::on_range(to, size, true, GATO_CALLER);
  return std::memcpy(to, from, size);
}
void* gato_emulation_memmove(void* to, const void* from, size_t size) {
  gato::cuda_emulation::on_range(from, size, false, GATO_CALLER);
  gato::cuda_emulation::on_range(to, size, true, GATO_CALLER);
  return std::memmove(to, from, size);
}
void* gato_emulation_memset(void* to, int value, size_t size) {
  gato::cuda_emulation::on_range(to, size, true, GATO_CALLER);
  return std::memset(to, value, size);
}

// Atomics of the standard library in host code of kernel files (std::call_once, static variables, shared_ptr). Kernels
// have none: theirs are atomicAdd and its kin.
unsigned char __tsan_atomic8_load(const volatile unsigned char* p, int) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
unsigned __tsan_atomic32_load(const volatile unsigned* p, int) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
unsigned __tsan_atomic32_fetch_add(volatile unsigned* p, unsigned value, int) {
  return __atomic_fetch_add(p, value, __ATOMIC_SEQ_CST);
}
}

extern "C" {
void __ubsan_handle_out_of_bounds(void* data, uintptr_t index) {
  gato::cuda_emulation::on_undefined(data, gato::cuda_emulation::FaultKind::kUndefined, "index ", index,
                                     " is outside its array");
}
void __ubsan_handle_shift_out_of_bounds(void* data, uintptr_t, uintptr_t distance) {
  gato::cuda_emulation::on_undefined(data, gato::cuda_emulation::FaultKind::kUndefined, "a shift by ", distance,
                                     " bits");
}
void __ubsan_handle_divrem_overflow(void* data, uintptr_t, uintptr_t) {
  gato::cuda_emulation::on_undefined(data, gato::cuda_emulation::FaultKind::kUndefined,
                                     "a division by zero, or one whose result does not fit");
}
void __ubsan_handle_add_overflow(void* data, uintptr_t, uintptr_t) {
  gato::cuda_emulation::on_undefined(data, gato::cuda_emulation::FaultKind::kUndefined, "a signed sum that overflows");
}
void __ubsan_handle_sub_overflow(void* data, uintptr_t, uintptr_t) {
  gato::cuda_emulation::on_undefined(data, gato::cuda_emulation::FaultKind::kUndefined,
                                     "a signed difference that overflows");
}
void __ubsan_handle_mul_overflow(void* data, uintptr_t, uintptr_t) {
  gato::cuda_emulation::on_undefined(data, gato::cuda_emulation::FaultKind::kUndefined,
                                     "a signed product that overflows");
}
void __ubsan_handle_negate_overflow(void* data, uintptr_t) {
  gato::cuda_emulation::on_undefined(data, gato::cuda_emulation::FaultKind::kUndefined,
                                     "a signed negation that overflows");
}
// Plain vectors of 8 or 16 bytes, which reach the hooks above in pieces.
void __ubsan_handle_type_mismatch_v1(void* data, uintptr_t) {
  gato::cuda_emulation::on_undefined(data, gato::cuda_emulation::FaultKind::kMisaligned,
                                     "a pointer that is no multiple of its type's alignment");
}
}
