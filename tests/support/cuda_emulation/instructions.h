#pragma once
// What emulated kernels call: the machine's instructions as functions. Kernels reach them through language.h and
// kernels/cuda/ptx.h. Callable only from inside a kernel that launch() runs.
#include <cstddef>
#include <cstdint>

struct uint3;

namespace gato::cuda_emulation {

/// The place in the source of an access: file and line of a call in one word, or a program counter.
class Site {
 public:
  constexpr Site() = default;

  /// The place of the call whose default argument this is.
  [[gnu::always_inline]] static Site here(const char* file = __builtin_FILE(), unsigned line = __builtin_LINE()) {
    return Site(kCall | uint64_t{line & 0xffff} << 47 | reinterpret_cast<uint64_t>(file));
  }
  static Site at(const void* program_counter) { return Site(reinterpret_cast<uint64_t>(program_counter)); }

  [[nodiscard]] bool is_call() const { return (word_ & kCall) != 0; }
  [[nodiscard]] const char* file() const { return reinterpret_cast<const char*>(word_ & ((uint64_t{1} << 47) - 1)); }
  [[nodiscard]] unsigned line() const { return static_cast<unsigned>(word_ >> 47 & 0xffff); }
  [[nodiscard]] uint64_t program_counter() const { return word_; }
  [[nodiscard]] uint64_t word() const { return word_; }  ///< Equal for equal places; usable as a key.
  friend bool operator==(Site a, Site b) { return a.word_ == b.word_; }

 private:
  static constexpr uint64_t kCall = uint64_t{1} << 63;
  constexpr explicit Site(uint64_t word) : word_(word) {}
  uint64_t word_ = 0;
};

struct Float4 {
  float v[4];
};
struct Uint4 {
  uint32_t v[4];
};

// A thread's position never changes while it runs, so compilers may keep what these return.
[[gnu::const]] uint3 thread_index();
[[gnu::const]] uint3 block_index();
[[gnu::const]] uint3 block_extent();
[[gnu::const]] uint3 grid_extent();

/// Start of the block's dynamic shared memory.
[[gnu::const]] void* dynamic_shared();
/// Shared memory of one GATO_SHARED of this block; the first thread to ask makes it. `tag` tells declarations apart.
void* static_shared(const void* tag, const char* name, size_t bytes);

void sync_threads(Site site);
void sync_warp(uint32_t mask, Site site);

enum class Shuffle : uint8_t { kIndex, kXor, kDown, kUp };
uint64_t shuffle(uint32_t mask, uint64_t value, Shuffle kind, int argument, int width, Site site);
uint32_t ballot(uint32_t mask, bool predicate, Site site);

Float4 mma_m16n8k16(Float4 d, Uint4 a, uint32_t b0, uint32_t b1, bool bfloat16, Site site);
Uint4 ldmatrix(const void* row, int count, bool transposed, Site site);

void cp_async(void* shared, const void* global, int bytes, int source_bytes, Site site);
void cp_async_commit(Site site);
void cp_async_wait(int pending, Site site);

/// One access of `bytes` (up to 16) bytes.
Uint4 load(const void* pointer, int bytes, Site site);
void store(void* pointer, int bytes, Uint4 value, Site site);

enum class Atomic : uint8_t { kAdd, kMin, kMax, kExchange, kOr, kAnd, kCompareAndSwap };
/// Atomic operation on `bytes` (4 or 8) bytes; returns the old value. Min and max compare as signed if `is_signed`.
uint64_t atomic(Atomic kind, void* pointer, int bytes, uint64_t value, uint64_t compare, bool is_signed, Site site);

}  // namespace gato::cuda_emulation
