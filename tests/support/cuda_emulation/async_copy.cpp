// cp.async: a copy is a write of its destination when it starts, poison until it is waited for, and data after.
#include <bit>
#include <cstring>

#include "cuda_emulation/machine.h"
#include "gato/core/text.h"

namespace gato::cuda_emulation {

void Block::start_copy(Thread& thread, const PendingCopy& copy) {
  const uintptr_t destination = reinterpret_cast<uintptr_t>(copy.destination);
  const uintptr_t source = reinterpret_cast<uintptr_t>(copy.source);
  const auto refuse = [&](FaultKind kind, const std::string& what) { report({kind, what, copy.site, "", 0}, true); };
  const size_t size = static_cast<size_t>(copy.bytes);
  if (!shared_.contains(destination))
    refuse(FaultKind::kBadInstruction, "cp.async: the destination is not shared memory");
  if (shared_.contains(source)) refuse(FaultKind::kBadInstruction, "cp.async: the source is not global memory");
  if (copy.source_bytes < 0 || copy.source_bytes > copy.bytes) {
    refuse(FaultKind::kBadInstruction,
           cat("cp.async of ", copy.bytes, " bytes takes ", copy.source_bytes, " from its source"));
  }
  if ((destination | source) % size != 0) {
    refuse(FaultKind::kMisaligned, cat("cp.async of ", copy.bytes, " bytes between addresses that are no multiples"));
  }
  // In the widest pieces there are: counted as one request where the whole is asked for.
  for (int done = 0; done < copy.source_bytes;) {
    const int step = static_cast<int>(std::bit_floor(static_cast<unsigned>(copy.source_bytes - done)));
    access(thread, source + static_cast<uintptr_t>(done), step, false, copy.site);
    done += step;
  }
  access(thread, destination, copy.bytes, true, copy.site);
  if (grid_->options.checks) {
    const size_t offset = shared_.offset(destination);
    for (size_t i = 0; i < size; i += SharedMemory::kGranule) {
      shared_.set_state(offset + i, SharedMemory::State::kCopying);
    }
    std::memset(copy.destination, 0xff, size);
  }
  thread.copies.push_back(copy);
}

void Block::commit_copies(Thread& thread) { ++thread.copy_group; }

void Block::wait_copies(Thread& thread, int pending) {
  // Group g is complete when at most `pending` groups after it were committed; the open group never is.
  size_t kept = 0;
  for (const PendingCopy& copy : thread.copies) {
    const bool complete = copy.group + static_cast<uint32_t>(pending) < thread.copy_group;
    if (!complete) {
      thread.copies[kept++] = copy;
      continue;
    }
    const size_t size = static_cast<size_t>(copy.bytes);
    const size_t taken = static_cast<size_t>(copy.source_bytes);
    std::memcpy(copy.destination, copy.source, taken);
    std::memset(copy.destination + taken, 0, size - taken);
    if (!grid_->options.checks) continue;
    const size_t offset = shared_.offset(reinterpret_cast<uintptr_t>(copy.destination));
    for (size_t i = 0; i < size; i += SharedMemory::kGranule) {
      shared_.set_state(offset + i, SharedMemory::State::kWritten);
      // Written now: who reads it before the next barrier is too early even if the copy started before the last one.
      shared_.history(offset + i).write(accessor(thread), serial_);
    }
  }
  thread.copies.resize(kept);
}

void cp_async(void* shared, const void* global, int bytes, int source_bytes, Site site) {
  const Instruction instruction;
  Thread& thread = instruction.thread();
  instruction.block().start_copy(thread, {static_cast<char*>(shared), static_cast<const char*>(global), bytes,
                                          source_bytes, thread.copy_group, site});
}

void cp_async_commit(Site) {
  const Instruction instruction;
  instruction.block().commit_copies(instruction.thread());
}

void cp_async_wait(int pending, Site) {
  const Instruction instruction;
  instruction.block().wait_copies(instruction.thread(), pending);
}

}  // namespace gato::cuda_emulation
