#pragma once
// The inside of the emulated device: threads, warps and blocks that run on fibers, and what they share. Included by the
// emulator's own files.
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "cuda_emulation/emulated_device.h"
#include "cuda_emulation/fiber.h"
#include "cuda_emulation/global_memory.h"
#include "cuda_emulation/instructions.h"
#include "cuda_emulation/launch.h"
#include "cuda_emulation/shared_memory.h"

#undef threadIdx
#undef blockIdx
#undef blockDim
#undef gridDim

namespace gato::cuda_emulation {

inline constexpr int kWarpLanes = 32;
inline constexpr int kMaxThreads = 1024;
inline constexpr int kMaxWarps = kMaxThreads / kWarpLanes;

class Block;
struct Thread;

// ------------------------------------------------------------------------------------------ faults

/// A fault as kernels meet it; made into a Fault on the host's stack, where looking up source lines is affordable.
struct RawFault {
  FaultKind kind;
  std::string what;
  Site site;
  std::string buffer;
  int64_t offset = 0;
};

// ------------------------------------------------------------------------------------------ counting

/// One access of one thread, waiting to be grouped with the other lanes' into a request.
struct LoggedAccess {
  Site site;
  uintptr_t address;
  uint8_t bytes;
  bool write;
  bool shared;
  bool ldmatrix;
};

struct SiteHash {
  size_t operator()(Site site) const { return std::hash<uint64_t>()(site.word() * 0x9e3779b97f4a7c15ull); }
};

/// What is counted at one place: SiteCounters without its name.
struct SiteTally {
  bool shared = false;
  bool write = false;
  int bytes = 0;
  uint64_t requests = 0, lanes = 0, phases = 0, cycles = 0, sectors = 0, ideal_sectors = 0;
};
using SiteTallies = std::unordered_map<Site, SiteTally, SiteHash>;

// ------------------------------------------------------------------------------------------ threads and warps

/// While one lives, the running kernel is inside an instruction: its memory accesses are the emulator's own, and not
/// looked at. Every instruction begins with one.
class Instruction {
 public:
  Instruction();
  ~Instruction();
  Instruction(const Instruction&) = delete;
  Instruction& operator=(const Instruction&) = delete;
  [[nodiscard]] Thread& thread() const { return *thread_; }
  [[nodiscard]] Block& block() const;

 private:
  Thread* thread_;
};

/// Warp-wide operations, at which lanes wait for each other.
enum class Operation : uint8_t { kSyncWarp, kShuffle, kVote, kMma, kLdmatrix };
[[nodiscard]] const char* operation_name(Operation operation);

/// A cp.async under way: carried out when it is waited for, so that a reader who is early finds poison.
struct PendingCopy {
  char* destination;
  const char* source;
  int bytes;
  int source_bytes;
  uint32_t group;
  Site site;
};

struct MmaOperands {
  Float4 d;
  Uint4 a;
  uint32_t b[2];
};
struct ShuffleOperands {
  uint64_t value;
  Shuffle kind;
  int argument;
  int width;
};
struct LdmatrixOperands {
  const void* row;
  int count;
  bool transposed;
};

/// One state of a warp: which lanes can run, wait at a warp operation, have ended. Lanes at a block barrier are in
/// none of the sets.
struct Warp {
  uint32_t lanes = 0;  ///< Those that exist.
  uint32_t runnable = 0;
  uint32_t waiting = 0;
  uint32_t exited = 0;
  uint32_t step = 1;  ///< __syncwarps passed: Accessor::step.
  int index = 0;
};

struct Thread {
  Fiber fiber;
  uintptr_t stack = 0;
  Block* block = nullptr;
  Warp* warp = nullptr;
  uint3 index{};
  int id = 0;  ///< Linear index in the block.
  int lane = 0;
  bool at_barrier = false;
  Site site;  ///< Of the barrier or warp operation last reached.

  // The warp operation last reached: operands in, results out.
  Operation operation{};
  uint32_t mask = 0;
  union {
    MmaOperands mma;
    ShuffleOperands shuffle;
    LdmatrixOperands ldmatrix;
    bool predicate;
  };
  union {
    Float4 sum;
    Uint4 matrix;
    uint64_t word = 0;
  };

  std::vector<PendingCopy> copies;
  uint32_t copy_group = 0;                ///< Groups committed.
  Allocation* last_allocation = nullptr;  ///< Where the last global access went: most go there again.
  std::vector<LoggedAccess> log;

  Thread() : predicate(false) {}
};

// ------------------------------------------------------------------------------------------ blocks

class GridRun;

/// Runs blocks, one after the other, on the calling host thread: every thread on its own fiber, one at a time, switched
/// where they wait for each other. Reused from launch to launch for its stacks and shadows.
class Block {
 public:
  Block();

  /// Runs the block of that index in `grid` to its end, or to the launch's end by a fault.
  void run(GridRun& grid, size_t block_index);

  /// The thread whose kernel code runs now on this host thread; null while the emulator or the host runs.
  static Thread* in_kernel();

  // --- what instructions of the running thread do (instructions' contracts: instructions.h)
  void sync_threads(Thread& thread, Site site);
  /// Waits until all lanes of `mask` are at the same operation; the last to come calls `act` once for all.
  template <class Act>
  void meet(Thread& thread, Operation operation, uint32_t mask, Site site, const Act& act);
  void access(Thread& thread, uintptr_t address, int bytes, bool write, Site site, bool atomic = false);
  void start_copy(Thread& thread, const PendingCopy& copy);
  void commit_copies(Thread& thread);
  void wait_copies(Thread& thread, int pending);
  void ldmatrix_access(Thread& thread, const void* row, bool used, Site site);
  void* static_shared(Thread& thread, const void* tag, const char* name, size_t bytes);

  /// Records a fault of the running thread; a fatal one ends the launch and does not return.
  void report(RawFault fault, bool fatal);

  [[nodiscard]] Thread& lane(const Warp& warp, int lane_index) {
    return threads_[warp.index * kWarpLanes + lane_index];
  }
  [[nodiscard]] GridRun& grid() { return *grid_; }
  [[nodiscard]] SharedMemory& shared() { return shared_; }
  [[nodiscard]] uint3 index() const { return index_; }

  // Gathered over the blocks this object ran in a launch.
  Counters counters;
  SiteTallies sites;

 private:
  static void thread_main();
  void start(GridRun& grid, size_t block_index);
  void finish(Thread& thread);
  void release_barrier();
  void report_deadlock();
  void suspend(Thread& thread);  ///< Goes on with another thread, or with run() when none can run.
  void switch_to_host(Thread& thread);
  [[nodiscard]] Thread* next_thread(const Thread* current);
  [[nodiscard]] bool at_random() const { return random_ != 0; }
  [[nodiscard]] uint32_t draw();

  [[nodiscard]] Accessor accessor(const Thread& thread) const;
  void shared_access(Thread& thread, size_t offset, int bytes, bool write, Site site, bool whole_warp, bool atomic);
  void global_access(Thread& thread, Allocation& allocation, uintptr_t address, int bytes, bool write, Site site,
                     bool atomic);
  [[noreturn]] void report_stray(Thread& thread, uintptr_t address, int bytes, bool write, Site site);
  void report_shared_outside(size_t offset, int bytes, bool write, Site site);
  RawFault shared_fault(FaultKind kind, size_t offset, Site site, const std::string& what) const;
  void log_access(Thread& thread, LoggedAccess access) { thread.log.push_back(access); }
  void flush_log(Warp& warp);

  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  FiberStacks stacks_;
  Fiber host_;
  SharedMemory shared_;
  GridRun* grid_ = nullptr;
  uint3 index_{};
  uint32_t serial_ = 0;
  uint32_t interval_ = 0;  ///< Accessor::interval.
  int num_threads_ = 0;
  int num_warps_ = 0;
  int alive_ = 0;
  int arrived_ = 0;  ///< At the block barrier.
  Site barrier_site_;
  bool stopped_ = false;
  uint32_t random_ = 0;
};

/// Turns a program counter or call into "file.cu", line; both empty when unknown. An inlined access gives the innermost
/// line and appends " (in FILE:LINE)" for the kernel's to `inlined_from`.
struct SourceLine {
  std::string file;
  unsigned line = 0;
  std::string inlined_from;
};
[[nodiscard]] SourceLine source_line(Site site);

/// Groups the lanes' logs of a warp into requests and adds them up.
void count_requests(const std::vector<LoggedAccess>* const* logs, int num_lanes, Counters& counters,
                    SiteTallies& sites);

// ------------------------------------------------------------------------------------------ launches

/// One launch under way; shared by the host threads that run its blocks.
class GridRun {
 public:
  GridRun(DeviceMachine& machine, const char* name, dim3 grid, dim3 block, size_t shared_bytes, const KernelCall& call);

  void add_fault(const Thread& thread, RawFault fault, bool fatal);
  [[nodiscard]] bool aborted() const { return aborted_.load(std::memory_order_relaxed); }
  [[nodiscard]] uint32_t next_serial();

  DeviceMachine& machine;
  const char* name;
  dim3 grid;
  dim3 block;
  size_t shared_bytes;
  KernelCall call;
  Options options;
  uint32_t first_serial;  ///< Blocks with a smaller serial number ran before this launch.

  struct PlacedFault {
    RawFault raw;
    uint3 block;
    int thread;
    bool fatal;
  };
  std::vector<PlacedFault> faults;  ///< The first of each place; read when all blocks ended.
  uint64_t num_faults = 0;

 private:
  std::mutex mutex_;
  std::map<std::pair<FaultKind, uint64_t>, int> at_place_;
  std::atomic<bool> aborted_{false};
};

/// Everything behind a Device.
class DeviceMachine {
 public:
  explicit DeviceMachine(Options options_);
  ~DeviceMachine();

  static DeviceMachine& current(const char* kernel);  ///< Throws DeviceError naming `kernel` when there is none.

  void run(const char* name, dim3 grid, dim3 block, size_t shared_bytes, const KernelCall& call);

  GlobalMemory memory;
  Options options;
  std::vector<Fault> faults;
  uint64_t num_faults = 0;
  bool dead = false;  ///< A fatal fault happened: launches do nothing until it is taken.
  struct KernelTotals {
    Counters counters;
    uint64_t launches = 0;
  };
  std::map<std::string, KernelTotals, std::less<>> totals;
  SiteTallies sites;
  std::atomic<uint32_t> next_serial{1};

 private:
  void run_blocks(GridRun& grid);
  void collect(GridRun& grid);
  std::vector<std::unique_ptr<Block>> blocks_;  ///< One per host thread.
};

/// Checks `options`; throws ContractError naming the bad field.
void check_options(const Options& options);

}  // namespace gato::cuda_emulation
