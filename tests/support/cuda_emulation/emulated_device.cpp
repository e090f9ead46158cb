// Devices and launches.
#include "cuda_emulation/emulated_device.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iomanip>
#include <numeric>
#include <random>
#include <sstream>
#include <thread>

#include "cuda_emulation/machine.h"
#include "gato/core/error.h"

namespace gato::cuda_emulation {
namespace {

constexpr size_t kKeptFaults = 100;
constexpr int kKeptPerPlace = 3;  // of one kind in one launch: a missing barrier makes thousands
constexpr size_t kDeviceSharedLimit = 227 * 1024;
constexpr unsigned kMaxGridYz = 65535;

std::vector<DeviceMachine*>& devices() {
  static std::vector<DeviceMachine*> alive;
  return alive;
}

std::string extents(const dim3& d) { return cat("(", d.x, ", ", d.y, ", ", d.z, ")"); }

/// Why a device would refuse the launch; empty if it would not.
std::string refusal(const dim3& grid, const dim3& block, size_t shared_bytes, const Options& options) {
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > kMaxThreads || block.z > 64) return "a block has 1 to 1024 threads (z up to 64)";
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return "an empty grid";
  if (grid.x > 0x7fffffffu || grid.y > kMaxGridYz || grid.z > kMaxGridYz) return "the grid is too large";
  if (shared_bytes > options.shared_limit) {
    return cat("a block has at most ", options.shared_limit, " bytes of shared memory");
  }
  return "";
}

Fault place_fault(const char* kernel, const GridRun::PlacedFault& placed) {
  const RawFault& raw = placed.raw;
  const SourceLine place = source_line(raw.site);
  Fault fault;
  fault.kind = raw.kind;
  fault.kernel = kernel;
  fault.block[0] = placed.block.x;
  fault.block[1] = placed.block.y;
  fault.block[2] = placed.block.z;
  fault.thread = placed.thread;
  fault.file = place.file;
  fault.line = place.line;
  fault.buffer = raw.buffer;
  fault.offset = raw.offset;
  fault.message = cat(fault_name(raw.kind), ": ", raw.what, ", kernel ", kernel, ", block (", placed.block.x, ", ",
                      placed.block.y, ", ", placed.block.z, "), thread ", placed.thread, ", at ",
                      place.line == 0 ? "an unknown line" : cat(place.file, ":", place.line), place.inlined_from);
  return fault;
}

void add_tallies(SiteTallies& total, const SiteTallies& part) {
  for (const auto& [site, tally] : part) {
    SiteTally& sum = total[site];
    sum.shared = tally.shared;
    sum.write = tally.write;
    sum.bytes = tally.bytes;
    sum.requests += tally.requests;
    sum.lanes += tally.lanes;
    sum.phases += tally.phases;
    sum.cycles += tally.cycles;
    sum.sectors += tally.sectors;
    sum.ideal_sectors += tally.ideal_sectors;
  }
}

/// Appends the launch's faults to the file that $GATO_EMULATION_FAULT_LOG names, if it does: tools/kernel_mutations
/// then knows of them whatever the test makes of them.
void log_faults(const GridRun& grid) {
  const char* path = std::getenv("GATO_EMULATION_FAULT_LOG");
  if (path == nullptr || grid.faults.empty()) return;
  std::ofstream log(path, std::ios::app);
  for (const GridRun::PlacedFault& placed : grid.faults) log << place_fault(grid.name, placed).message << "\n";
}

}  // namespace

// ------------------------------------------------------------------------------------------ launches

void launch_grid(const char* name, dim3 grid, dim3 block, size_t shared_bytes, const KernelCall& call) {
  DeviceMachine::current(name).run(name, grid, block, shared_bytes, call);
}

int num_multiprocessors() { return DeviceMachine::current("num_multiprocessors()").options.num_multiprocessors; }
size_t max_shared_bytes() { return DeviceMachine::current("max_shared_bytes()").options.shared_limit; }

GridRun::GridRun(DeviceMachine& machine_, const char* name_, dim3 grid_, dim3 block_, size_t shared_bytes_,
                 const KernelCall& call_)
    : machine(machine_),
      name(name_),
      grid(grid_),
      block(block_),
      shared_bytes(shared_bytes_),
      call(call_),
      options(machine_.options),
      first_serial(machine_.next_serial.load()) {}

uint32_t GridRun::next_serial() { return machine.next_serial.fetch_add(1); }

void GridRun::add_fault(const Thread& thread, RawFault fault, bool fatal) {
  const std::lock_guard lock(mutex_);
  ++num_faults;
  const bool few_here = ++at_place_[{fault.kind, fault.site.word()}] <= kKeptPerPlace;
  if (fatal || (few_here && faults.size() < kKeptFaults)) {
    faults.push_back({std::move(fault), thread.block->index(), thread.id, fatal});
  }
  if (fatal) aborted_ = true;
}

DeviceMachine::DeviceMachine(Options options_) : options(options_) {
  check_options(options);
  devices().push_back(this);
}

DeviceMachine::~DeviceMachine() { std::erase(devices(), this); }

DeviceMachine& DeviceMachine::current(const char* kernel) {
  if (devices().empty())
    throw DeviceError(cat("kernel ", kernel, ": there is no emulated device (make a Device first)"));
  return *devices().back();
}

void DeviceMachine::run(const char* name, dim3 grid, dim3 block, size_t shared_bytes, const KernelCall& call) {
  const std::string reason = refusal(grid, block, shared_bytes, options);
  if (!reason.empty()) {
    throw DeviceError(cat("kernel ", name, ": cannot launch grid ", extents(grid), ", block ", extents(block), " with ",
                          shared_bytes, " bytes of dynamic shared memory: ", reason));
  }
  if (dead) return;
  GridRun run(*this, name, grid, block, shared_bytes, call);
  run_blocks(run);
}

void DeviceMachine::run_blocks(GridRun& grid) {
  const size_t num_blocks = size_t{grid.grid.x} * grid.grid.y * grid.grid.z;
  std::vector<uint32_t> order(num_blocks);
  std::iota(order.begin(), order.end(), 0u);
  if (options.schedule_seed != 0) std::shuffle(order.begin(), order.end(), std::mt19937(options.schedule_seed));
  const size_t num_workers = std::min(static_cast<size_t>(options.host_threads), num_blocks);
  while (blocks_.size() < num_workers) blocks_.push_back(std::make_unique<Block>());

  std::atomic<size_t> next{0};
  const auto work = [&](Block& block) {
    for (size_t i = next++; i < num_blocks && !grid.aborted(); i = next++) block.run(grid, order[i]);
  };
  std::vector<std::thread> helpers;
  for (size_t i = 1; i < num_workers; ++i) helpers.emplace_back([&work, this, i] { work(*blocks_[i]); });
  work(*blocks_[0]);
  for (std::thread& helper : helpers) helper.join();
  collect(grid);
}

void DeviceMachine::collect(GridRun& grid) {
  KernelTotals& kernel = totals[grid.name];
  ++kernel.launches;
  for (const auto& block : blocks_) {
    kernel.counters += std::exchange(block->counters, {});
    add_tallies(sites, block->sites);
    block->sites.clear();
  }
  num_faults += grid.num_faults;
  log_faults(grid);
  for (const GridRun::PlacedFault& placed : grid.faults) {
    dead = dead || placed.fatal;
    if (placed.fatal || faults.size() < kKeptFaults) faults.push_back(place_fault(grid.name, placed));
  }
}

void check_options(const Options& options) {
  GATO_CHECK(options.host_threads >= 1 && options.host_threads <= 256, "Options::host_threads is ",
             options.host_threads, ": use 1..256");
  GATO_CHECK(options.shared_limit <= kDeviceSharedLimit, "Options::shared_limit is ", options.shared_limit,
             ": no device has more than ", kDeviceSharedLimit);
  GATO_CHECK(options.num_multiprocessors >= 1, "Options::num_multiprocessors is ", options.num_multiprocessors,
             ": use 1 or more");
}

// ------------------------------------------------------------------------------------------ devices

Device::Device(Options options) : machine_(std::make_unique<DeviceMachine>(options)) {}
Device::~Device() = default;

std::shared_ptr<Allocation> Device::allocate(std::string name, size_t bytes, size_t element_bytes, bool read_only) {
  return machine_->memory.allocate(std::move(name), bytes, element_bytes, read_only);
}

const std::vector<Fault>& Device::faults() const { return machine_->faults; }
uint64_t Device::num_faults() const { return machine_->num_faults; }

std::vector<Fault> Device::take_faults() {
  machine_->dead = false;
  machine_->num_faults = 0;
  return std::exchange(machine_->faults, {});
}

Counters Device::counters() const {
  Counters sum;
  for (const auto& [name, kernel] : machine_->totals) sum += kernel.counters;
  return sum;
}

Counters Device::counters(std::string_view kernel) const {
  const auto found = machine_->totals.find(kernel);
  return found == machine_->totals.end() ? Counters{} : found->second.counters;
}

uint64_t Device::num_launches(std::string_view kernel) const {
  const auto found = machine_->totals.find(kernel);
  return found == machine_->totals.end() ? 0 : found->second.launches;
}

std::vector<SiteCounters> Device::site_counters() const {
  std::vector<SiteCounters> all;
  for (const auto& [site, tally] : machine_->sites) {
    const SourceLine place = source_line(site);
    all.push_back({cat(place.file, ":", place.line, place.inlined_from), tally.shared, tally.write, tally.bytes,
                   tally.requests, tally.lanes, tally.phases, tally.cycles, tally.sectors, tally.ideal_sectors});
  }
  std::sort(all.begin(), all.end(), [](const SiteCounters& a, const SiteCounters& b) {
    return a.requests != b.requests ? a.requests > b.requests : a.place < b.place;
  });
  return all;
}

std::string Device::describe_sites() const {
  std::ostringstream out;
  out << std::fixed << std::setprecision(2);
  for (const SiteCounters& site : site_counters()) {
    out << std::setw(10) << site.requests << (site.shared ? " shared " : " global ") << (site.write ? "write" : "read ")
        << std::setw(4) << site.bytes << " bytes  ";
    const double requests = static_cast<double>(site.requests);
    if (site.shared) {
      out << static_cast<double>(site.cycles) / static_cast<double>(site.phases) << " cycles per phase";
    } else {
      out << static_cast<double>(site.sectors) / requests << " sectors per request, "
          << static_cast<double>(site.ideal_sectors) / requests << " at best";
    }
    out << "  " << site.place << "\n";
  }
  return out.str();
}

void Device::reset_counters() {
  machine_->totals.clear();
  machine_->sites.clear();
}

const Options& Device::options() const { return machine_->options; }

void Device::set_options(Options options) {
  check_options(options);
  machine_->options = options;
}

}  // namespace gato::cuda_emulation
