// Every access of a kernel to memory: where it goes, whether it may, and what it means for later accesses.
#include <link.h>

#include <array>
#include <bit>
#include <cstring>

#include "cuda_emulation/machine.h"
#include "gato/core/text.h"

namespace gato::cuda_emulation {
namespace {

const char* verb(bool write) { return write ? "writes" : "reads"; }

/// Whether `address` is in a segment of the program itself: constant tables may be read.
bool in_program(uintptr_t address) {
  struct Segments {
    std::vector<std::pair<uintptr_t, uintptr_t>> ranges;
    Segments() {
      dl_iterate_phdr(
          [](dl_phdr_info* object, size_t, void* self) {
            for (int i = 0; i < object->dlpi_phnum; ++i) {
              const auto& header = object->dlpi_phdr[i];
              if (header.p_type != PT_LOAD) continue;
              const uintptr_t begin = object->dlpi_addr + header.p_vaddr;
              static_cast<Segments*>(self)->ranges.emplace_back(begin, begin + header.p_memsz);
            }
            return 1;  // the program comes first; libraries have no tables of kernels
          },
          this);
    }
  };
  static const Segments segments;
  for (const auto& [begin, end] : segments.ranges) {
    if (address >= begin && address < end) return true;
  }
  return false;
}

/// Locks a part of a buffer's history when several host threads run blocks.
class CellLock {
 public:
  CellLock(bool needed, uintptr_t address) : flag_(needed ? &flags()[address / 64 % kFlags] : nullptr) {
    while (flag_ != nullptr && flag_->test_and_set(std::memory_order_acquire)) {
    }
  }
  ~CellLock() {
    if (flag_ != nullptr) flag_->clear(std::memory_order_release);
  }
  CellLock(const CellLock&) = delete;
  CellLock& operator=(const CellLock&) = delete;

 private:
  static constexpr size_t kFlags = 1024;
  static std::array<std::atomic_flag, kFlags>& flags() {
    static std::array<std::atomic_flag, kFlags> all{};
    return all;
  }
  std::atomic_flag* flag_;
};

std::string race_text(const Conflict& conflict, const Thread& thread, bool write) {
  std::string other = conflict.thread < 0 ? "other threads" : cat("thread ", conflict.thread);
  if (conflict.other_block) other += " of another block";
  return cat("thread ", thread.id, " ", verb(write), " after ", other, conflict.wrote ? " wrote" : " read",
             conflict.other_block ? ", and blocks are not ordered" : ", with no barrier between");
}

}  // namespace

Accessor Block::accessor(const Thread& thread) const {
  return {serial_, interval_, thread.warp->step, static_cast<uint16_t>(thread.id)};
}

void Block::access(Thread& thread, uintptr_t address, int bytes, bool write, Site site, bool atomic) {
  if (address - thread.stack < kStackBytes) return;  // its own local arrays
  const Options& options = grid_->options;
  if (!options.checks && !options.counters) return;
  const size_t size = static_cast<size_t>(bytes);
  if (shared_.contains(address)) {
    const size_t offset = shared_.offset(address);
    if (options.checks) shared_access(thread, offset, bytes, write, site, false, atomic);
    if (options.counters) log_access(thread, {site, address, static_cast<uint8_t>(bytes), write, true, false});
    return;
  }
  Allocation* allocation = thread.last_allocation;
  if (allocation == nullptr || !allocation->contains(address, size)) {
    allocation = grid_->machine.memory.find(address);
    if (allocation == nullptr || allocation->freed || !allocation->contains(address, size)) {
      if (address - reinterpret_cast<uintptr_t>(grid_->call.closure) < grid_->call.closure_bytes) return;  // parameters
      if (!write && in_program(address)) return;
      if (options.checks) report_stray(thread, address, bytes, write, site);
      return;
    }
    thread.last_allocation = allocation;
  }
  if (options.checks) global_access(thread, *allocation, address, bytes, write, site, atomic);
  if (options.counters) log_access(thread, {site, address, static_cast<uint8_t>(bytes), write, false, false});
}

// ------------------------------------------------------------------------------------------ global memory

void Block::report_stray(Thread& thread, uintptr_t address, int bytes, bool write, Site site) {
  const Allocation* near = grid_->machine.memory.nearest(address);
  RawFault fault{FaultKind::kOutOfBounds, "", site, "", 0};
  if (near == nullptr) {
    fault.what = cat(verb(write), " ", bytes,
                     " bytes at an address that is in no buffer, shared memory or own local "
                     "array (the host's memory? another thread's locals?)");
  } else {
    fault.buffer = near->name;
    fault.offset = static_cast<int64_t>(address) - static_cast<int64_t>(near->begin);
    fault.what = cat(verb(write), " ", bytes, " bytes at offset ", fault.offset, " of buffer '", near->name, "' (",
                     near->bytes, " bytes", near->freed ? ", freed" : "", ")");
  }
  static_cast<void>(thread);
  report(std::move(fault), true);
  std::abort();
}

void Block::global_access(Thread& thread, Allocation& allocation, uintptr_t address, int bytes, bool write, Site site,
                          bool atomic) {
  const size_t begin = address - allocation.begin;
  const auto fault = [&](FaultKind kind, size_t offset, const std::string& what) {
    return RawFault{kind, cat(what, " (buffer '", allocation.name, "' + ", offset, ")"), site, allocation.name,
                    static_cast<int64_t>(offset)};
  };
  if ((address & static_cast<uintptr_t>(bytes - 1)) != 0) {
    report(
        fault(FaultKind::kMisaligned, begin, cat(verb(write), " ", bytes, " bytes at an address that is no multiple")),
        true);
  }
  if (write && allocation.read_only) report(fault(FaultKind::kReadOnly, begin, "writes to an input"), true);
  Accessor who = accessor(thread);
  who.atomic = atomic;
  const unsigned shift = allocation.granule_shift;
  const CellLock lock(grid_->options.host_threads > 1, address);
  for (size_t i = begin >> shift; i <= (begin + static_cast<size_t>(bytes) - 1) >> shift; ++i) {
    GlobalCell& cell = allocation.cells[i];
    const bool reads_unwritten = (!write || atomic) && !allocation.all_written && !cell.written;
    if (reads_unwritten) {
      report(fault(FaultKind::kUnwritten, i << shift, "reads global memory that nothing has written"), false);
      cell.written = true;  // once is enough
    }
    const Conflict conflict =
        write ? cell.history.write(who, grid_->first_serial) : cell.history.read(who, grid_->first_serial);
    if (write) cell.written = true;
    if (conflict.found) {
      report(fault(FaultKind::kGlobalRace, i << shift, race_text(conflict, thread, write)), false);
      cell.history.forget();
      return;
    }
  }
}

// ------------------------------------------------------------------------------------------ shared memory

RawFault Block::shared_fault(FaultKind kind, size_t offset, Site site, const std::string& what) const {
  const SharedMemory::Place place = shared_.place(offset);
  const int64_t inside = static_cast<int64_t>(offset) - static_cast<int64_t>(place.begin);
  return {kind, cat(what, " (", place.name, " + ", inside, " of ", place.bytes, " bytes)"), site, place.name, inside};
}

void Block::shared_access(Thread& thread, size_t offset, int bytes, bool write, Site site, bool whole_warp,
                          bool atomic) {
  const size_t size = static_cast<size_t>(bytes);
  if (!shared_.is_inside(offset, size)) {
    report(shared_fault(FaultKind::kOutOfBounds, offset, site, cat(verb(write), " ", bytes, " bytes outside")), true);
  }
  if ((offset & (size - 1)) != 0) {
    report(shared_fault(FaultKind::kMisaligned, offset, site,
                        cat(verb(write), " ", bytes, " bytes at an address that is no multiple")),
           true);
  }
  if (size < SharedMemory::kGranule) {
    report(shared_fault(FaultKind::kBadInstruction, offset, site,
                        "single bytes of shared memory are not supported: use 16 bits or more"),
           true);
  }
  Accessor who = accessor(thread);
  who.whole_warp = whole_warp;
  who.atomic = atomic;
  for (size_t at = offset; at < offset + size; at += SharedMemory::kGranule) {
    AccessHistory& history = shared_.history(at);
    const SharedMemory::State state = shared_.state(at);
    if (state == SharedMemory::State::kCopying) {
      report(shared_fault(FaultKind::kAsyncCopy, at, site,
                          cat(verb(write), " shared memory that a cp.async of thread ", history.last_writing_thread(),
                              " is still filling: its cp_async_wait is missing or too early")),
             false);
      shared_.set_state(at, SharedMemory::State::kWritten);
      history.forget();
      return;
    }
    if (state == SharedMemory::State::kUnwritten) {
      if (!write || atomic) {
        report(shared_fault(FaultKind::kUnwritten, at, site, "reads shared memory that nothing has written"), false);
        shared_.set_state(at, SharedMemory::State::kWritten);
        return;
      }
      shared_.set_state(at, SharedMemory::State::kWritten);
    }
    const Conflict conflict = write ? history.write(who, serial_) : history.read(who, serial_);
    if (conflict.found) {
      report(shared_fault(FaultKind::kSharedRace, at, site, race_text(conflict, thread, write)), false);
      history.forget();
      return;
    }
  }
}

void Block::ldmatrix_access(Thread& thread, const void* row, bool used, Site site) {
  if (!used) return;
  const uintptr_t address = reinterpret_cast<uintptr_t>(row);
  if (!shared_.contains(address)) {
    report({FaultKind::kBadInstruction, "ldmatrix reads an address that is not in shared memory", site, "", 0}, true);
  }
  if (grid_->options.checks) shared_access(thread, shared_.offset(address), 16, false, site, true, false);
  if (grid_->options.counters) log_access(thread, {site, address, 16, false, true, true});
}

void* Block::static_shared(Thread& thread, const void* tag, const char* name, size_t bytes) {
  constexpr size_t kStaticLimit = 48 * 1024;  // of every device
  void* array = shared_.array(tag, name, bytes);
  const size_t limit = grid_->options.shared_limit;
  const size_t static_bytes = shared_.bytes_used() - grid_->shared_bytes;
  if (array == nullptr || shared_.bytes_used() > limit || static_bytes > kStaticLimit) {
    report({FaultKind::kBadInstruction,
            cat("the block needs ", shared_.bytes_used(), " bytes of shared memory with the array '", name, "' of ",
                bytes, ": the device has ", limit, ", of which ", kStaticLimit, " for static arrays"),
            thread.site, name, 0},
           true);
  }
  return array;
}

// ------------------------------------------------------------------------------------------ plain accesses by wrapper

Uint4 load(const void* pointer, int bytes, Site site) {
  const Instruction instruction;
  instruction.block().access(instruction.thread(), reinterpret_cast<uintptr_t>(pointer), bytes, false, site);
  Uint4 value{};
  std::memcpy(&value, pointer, static_cast<size_t>(bytes));
  return value;
}

void store(void* pointer, int bytes, Uint4 value, Site site) {
  const Instruction instruction;
  instruction.block().access(instruction.thread(), reinterpret_cast<uintptr_t>(pointer), bytes, true, site);
  std::memcpy(pointer, &value, static_cast<size_t>(bytes));
}

// ------------------------------------------------------------------------------------------ atomics

namespace {

template <class Unsigned, class Signed>
Unsigned combine(Atomic kind, Unsigned old, Unsigned value, Unsigned compare, bool is_signed) {
  const bool less = is_signed ? static_cast<Signed>(value) < static_cast<Signed>(old) : value < old;
  switch (kind) {
    case Atomic::kAdd:
      return old + value;
    case Atomic::kMin:
      return less ? value : old;
    case Atomic::kMax:
      return less ? old : value;
    case Atomic::kExchange:
      return value;
    case Atomic::kOr:
      return old | value;
    case Atomic::kAnd:
      return old & value;
    case Atomic::kCompareAndSwap:
      return old == compare ? value : old;
  }
  return old;
}

template <class Unsigned, class Signed>
Unsigned update(Atomic kind, void* pointer, Unsigned value, Unsigned compare, bool is_signed) {
  Unsigned* word = static_cast<Unsigned*>(pointer);
  Unsigned old = __atomic_load_n(word, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(word, &old, combine<Unsigned, Signed>(kind, old, value, compare, is_signed), true,
                                      __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return old;
}

}  // namespace

uint64_t atomic(Atomic kind, void* pointer, int bytes, uint64_t value, uint64_t compare, bool is_signed, Site site) {
  const Instruction instruction;
  Block& block = instruction.block();
  block.access(instruction.thread(), reinterpret_cast<uintptr_t>(pointer), bytes, true, site, true);
  ++block.counters.atomics;
  if (bytes == 8) return update<uint64_t, int64_t>(kind, pointer, value, compare, is_signed);
  return update<uint32_t, int32_t>(kind, pointer, static_cast<uint32_t>(value), static_cast<uint32_t>(compare),
                                   is_signed);
}

}  // namespace gato::cuda_emulation
