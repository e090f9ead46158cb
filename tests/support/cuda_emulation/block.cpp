// A block's life: its threads as fibers, who runs next, the block barrier.
#include <algorithm>
#include <bit>
#include <cstdlib>

#include "cuda_emulation/machine.h"
#include "gato/core/error.h"

namespace gato::cuda_emulation {
namespace {

// Initial-exec: read at every memory access of a kernel.
[[gnu::tls_model("initial-exec")]] thread_local Thread* running_thread = nullptr;
[[gnu::tls_model("initial-exec")]] thread_local bool kernel_code = false;

uint32_t mix(uint64_t value) {
  value = (value ^ value >> 33) * 0xff51afd7ed558ccdull;
  value = (value ^ value >> 33) * 0xc4ceb9fe1a85ec53ull;
  return static_cast<uint32_t>(value ^ value >> 33);
}

uint32_t bit(int index) { return 1u << index; }

}  // namespace

Instruction::Instruction() : thread_(running_thread) {
  if (thread_ == nullptr) {
    throw ContractError("a device function was called outside a kernel: only launch() runs kernels");
  }
  kernel_code = false;
}
Instruction::~Instruction() { kernel_code = true; }
Block& Instruction::block() const { return *thread_->block; }

Thread* Block::in_kernel() { return kernel_code ? running_thread : nullptr; }

uint3 thread_index() { return running_thread->index; }
uint3 block_index() { return running_thread->block->index(); }
uint3 block_extent() {
  const dim3& extent = running_thread->block->grid().block;
  return {extent.x, extent.y, extent.z};
}
uint3 grid_extent() {
  const dim3& extent = running_thread->block->grid().grid;
  return {extent.x, extent.y, extent.z};
}
void* dynamic_shared() { return running_thread->block->shared().data(); }

// ------------------------------------------------------------------------------------------ life

Block::Block() : threads_(kMaxThreads), warps_(kMaxWarps), stacks_(kMaxThreads) {}

void Block::start(GridRun& grid, size_t block_index) {
  grid_ = &grid;
  const dim3& extent = grid.block;
  num_threads_ = static_cast<int>(extent.x * extent.y * extent.z);
  num_warps_ = (num_threads_ + kWarpLanes - 1) / kWarpLanes;
  index_ = {static_cast<unsigned>(block_index % grid.grid.x),
            static_cast<unsigned>(block_index / grid.grid.x % grid.grid.y),
            static_cast<unsigned>(block_index / (size_t{grid.grid.x} * grid.grid.y))};
  serial_ = grid.next_serial();
  interval_ = 1;
  alive_ = num_threads_;
  arrived_ = 0;
  stopped_ = false;
  const uint32_t seed = grid.options.schedule_seed;
  random_ = seed == 0 ? 0 : std::max(1u, mix(uint64_t{seed} << 32 | (block_index + 1)));
  shared_.start_block(serial_, grid.shared_bytes, grid.options.checks);
  for (int w = 0; w < num_warps_; ++w) {
    const int lanes = std::min(kWarpLanes, num_threads_ - w * kWarpLanes);
    Warp& warp = warps_[static_cast<size_t>(w)];
    warp = Warp{};
    warp.lanes = warp.runnable = lanes == kWarpLanes ? ~0u : bit(lanes) - 1;
    warp.index = w;
  }
  for (int i = 0; i < num_threads_; ++i) {
    Thread& thread = threads_[static_cast<size_t>(i)];
    const unsigned id = static_cast<unsigned>(i);
    thread.stack = stacks_.stack(id);
    thread.fiber.prepare(thread.stack, &Block::thread_main);
    thread.block = this;
    thread.warp = &warps_[id / kWarpLanes];
    thread.index = {id % extent.x, id / extent.x % extent.y, id / (extent.x * extent.y)};
    thread.id = i;
    thread.lane = i % kWarpLanes;
    thread.at_barrier = false;
    thread.copies.clear();
    thread.copy_group = 0;
    thread.last_allocation = nullptr;
    thread.log.clear();
  }
}

void Block::run(GridRun& grid, size_t block_index) {
  start(grid, block_index);
  ++counters.blocks;
  while (!stopped_) {
    Thread* next = next_thread(nullptr);
    if (next == nullptr) break;
    running_thread = next;
    Fiber::transfer(host_, next->fiber);
  }
  if (!stopped_ && alive_ > 0) report_deadlock();
  running_thread = nullptr;
}

void Block::thread_main() {
  Thread& thread = *running_thread;
  kernel_code = true;
  thread.block->grid().call.run(thread.block->grid().call.closure);
  kernel_code = false;
  thread.block->finish(thread);
  std::abort();  // finish() does not come back
}

void Block::finish(Thread& thread) {
  if (!thread.copies.empty()) {
    report({FaultKind::kAsyncCopy, "the thread ends while its cp.async is under way: cp_async_wait<0>() is missing",
            thread.copies.front().site, "", 0},
           false);
  }
  Warp& warp = *thread.warp;
  warp.exited |= bit(thread.lane);
  warp.runnable &= ~bit(thread.lane);
  --alive_;
  if (warp.exited == warp.lanes) flush_log(warp);
  if (arrived_ > 0) {
    report({FaultKind::kDivergence,
            cat("the thread ends while ", arrived_, " threads wait at __syncthreads (not reached by all)"),
            barrier_site_, "", 0},
           true);
  }
  suspend(thread);
}

void Block::report(RawFault fault, bool fatal) {
  Thread& thread = *running_thread;
  grid_->add_fault(thread, std::move(fault), fatal);
  if (!fatal) return;
  stopped_ = true;
  switch_to_host(thread);
  std::abort();  // a stopped block is never gone on with
}

void Block::report_deadlock() {
  std::string waiting;
  int named = 0;
  Thread* first = nullptr;
  for (int i = 0; i < num_threads_; ++i) {
    Thread& thread = threads_[static_cast<size_t>(i)];
    if ((thread.warp->exited & bit(thread.lane)) != 0) continue;
    if (first == nullptr) first = &thread;
    // One of each warp's lanes at the same place is enough.
    const bool repeats = i % kWarpLanes != 0 && threads_[static_cast<size_t>(i) - 1].site == thread.site;
    if (repeats || ++named > 6) continue;
    const SourceLine place = source_line(thread.site);
    waiting += cat(waiting.empty() ? "" : ", ", "thread ", i, " at ",
                   thread.at_barrier ? "__syncthreads" : operation_name(thread.operation), " of ", place.file, ":",
                   place.line);
  }
  grid_->add_fault(*first,
                   {FaultKind::kDivergence,
                    cat("deadlock, a barrier or warp operation is not reached by all it waits for: ", waiting,
                        named > 6 ? ", ..." : ""),
                    first->site, "", 0},
                   true);
}

// ------------------------------------------------------------------------------------------ scheduling

uint32_t Block::draw() {
  random_ ^= random_ << 13;
  random_ ^= random_ >> 17;
  random_ ^= random_ << 5;
  return random_;
}

// In order: the next lane of the same warp, then the next warps. At random: any warp and lane that can run.
Thread* Block::next_thread(const Thread* current) {
  int warp_index = current == nullptr ? 0 : current->warp->index;
  int rotation = current == nullptr ? 0 : (current->lane + 1) % kWarpLanes;
  if (at_random()) {
    const uint32_t number = draw();
    rotation = static_cast<int>(number >> 27);
    warp_index = static_cast<int>((number >> 8 & 0xffff) % static_cast<uint32_t>(num_warps_));
  }
  for (int i = 0; i < num_warps_; ++i) {
    Warp& warp = warps_[static_cast<size_t>(warp_index)];
    if (warp.runnable != 0) {
      const int lane_index = (std::countr_zero(std::rotr(warp.runnable, rotation)) + rotation) % kWarpLanes;
      return &lane(warp, lane_index);
    }
    warp_index = warp_index + 1 == num_warps_ ? 0 : warp_index + 1;
  }
  return nullptr;
}

void Block::suspend(Thread& thread) {
  Thread* next = next_thread(&thread);
  if (next == &thread) return;
  if (next == nullptr) return switch_to_host(thread);
  running_thread = next;
  Fiber::transfer(thread.fiber, next->fiber);
}

void Block::switch_to_host(Thread& thread) { Fiber::transfer(thread.fiber, host_); }

// ------------------------------------------------------------------------------------------ the block barrier

void Block::sync_threads(Thread& thread, Site site) {
  if (arrived_ > 0 && !(barrier_site_ == site)) {
    const SourceLine other = source_line(barrier_site_);
    report({FaultKind::kDivergence,
            cat("a barrier is not reached by all: this thread is at one __syncthreads while others wait at that of ",
                other.file, ":", other.line),
            site, "", 0},
           true);
  }
  if (alive_ != num_threads_) {
    report({FaultKind::kDivergence,
            cat("a barrier is not reached by all: ", num_threads_ - alive_, " threads have ended before"), site, "", 0},
           true);
  }
  barrier_site_ = thread.site = site;
  thread.at_barrier = true;
  thread.warp->runnable &= ~bit(thread.lane);
  if (++arrived_ == alive_) {
    release_barrier();
    if (!at_random()) return;
  }
  suspend(thread);
}

void Block::release_barrier() {
  for (int w = 0; w < num_warps_; ++w) {
    Warp& warp = warps_[static_cast<size_t>(w)];
    flush_log(warp);
    warp.runnable = warp.lanes & ~warp.exited;
  }
  for (int i = 0; i < num_threads_; ++i) threads_[static_cast<size_t>(i)].at_barrier = false;
  arrived_ = 0;
  ++interval_;
  ++counters.block_barriers;
}

void sync_threads(Site site) {
  const Instruction instruction;
  instruction.block().sync_threads(instruction.thread(), site);
}

void* static_shared(const void* tag, const char* name, size_t bytes) {
  const Instruction instruction;
  return instruction.block().static_shared(instruction.thread(), tag, name, bytes);
}

}  // namespace gato::cuda_emulation
