#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace gato::cuda_emulation {

enum class FaultKind : uint8_t {
  kOutOfBounds,     ///< Access outside every buffer, past a shared array, to freed memory, or to the host's memory.
  kReadOnly,        ///< Write to a buffer made by Device::input.
  kUnwritten,       ///< Read of memory that nothing has written.
  kMisaligned,      ///< Address is no multiple of the access's size.
  kSharedRace,      ///< Two threads of a block at the same shared memory without a barrier between, one writing.
  kGlobalRace,      ///< The same on global memory, inside a block or between blocks.
  kAsyncCopy,       ///< Shared memory touched while a cp.async to it is under way, or one left so at a thread's end.
  kDivergence,      ///< A barrier or warp operation not reached by all that it needs.
  kBadInstruction,  ///< Operands that the instruction does not allow.
  kUndefined,       ///< Undefined behaviour of the language: local array overrun, bad shift, division by zero, ...
};

/// "out of bounds", "shared race", ...
[[nodiscard]] const char* fault_name(FaultKind kind);

/// Something a kernel did that a device would not report, or would die of.
struct Fault {
  FaultKind kind;
  std::string message;  ///< The whole report in one line: kind, what, kernel, block, thread, place.
  std::string kernel;   ///< Launch::name.
  unsigned block[3];    ///< blockIdx.
  int thread;           ///< Linear index in the block.
  std::string file;     ///< Of the access; the file's name without folders. Empty when unknown.
  unsigned line;        ///< 0 when unknown.
  std::string buffer;   ///< Name of the buffer or shared array concerned, if any.
  int64_t offset;       ///< Bytes from its start; negative in front of it.
};

}  // namespace gato::cuda_emulation
