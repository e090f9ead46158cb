// From single accesses of lanes to requests of warps: sectors of global memory, passes over shared memory's banks.
#include <algorithm>
#include <array>
#include <map>

#include "cuda_emulation/machine.h"

namespace gato::cuda_emulation {
namespace {

constexpr int kBanks = 32;
constexpr uintptr_t kBankBytes = 4;
constexpr unsigned kSectorShift = 5;

using Request = std::vector<const LoggedAccess*>;

/// Lanes that shared memory serves in one pass: as many as 128 bytes take.
size_t lanes_per_phase(const LoggedAccess& access) {
  if (access.ldmatrix) return 8;
  return access.bytes >= 16 ? 8 : access.bytes == 8 ? 16 : 32;
}

/// Passes that lanes [begin, end) need: the most different words that one bank holds of theirs.
uint64_t bank_cycles(const Request& request, size_t begin, size_t end) {
  std::array<uintptr_t, kWarpLanes * 4> words;
  std::array<uintptr_t, kBanks> first_of_bank;
  std::array<int, kBanks> of_bank{};
  size_t num_words = 0;
  int cycles = 0;
  for (size_t i = begin; i < end; ++i) {
    const uintptr_t first = request[i]->address / kBankBytes;
    const uintptr_t last = (request[i]->address + request[i]->bytes - 1) / kBankBytes;
    for (uintptr_t word = first; word <= last; ++word) {
      const size_t bank = word % kBanks;
      if (of_bank[bank] == 0) {
        first_of_bank[bank] = word;
      } else {
        const auto known_end = words.begin() + static_cast<std::ptrdiff_t>(num_words);
        const bool known = first_of_bank[bank] == word || std::find(words.begin(), known_end, word) != known_end;
        if (known) continue;  // broadcast
      }
      words[num_words++] = word;
      cycles = std::max(cycles, ++of_bank[bank]);
    }
  }
  return static_cast<uint64_t>(cycles);
}

void count_shared(const Request& request, Counters& counters, SiteTally& tally) {
  const size_t step = lanes_per_phase(*request.front());
  uint64_t phases = 0;
  uint64_t cycles = 0;
  for (size_t begin = 0; begin < request.size(); begin += step) {
    ++phases;
    cycles += bank_cycles(request, begin, std::min(request.size(), begin + step));
  }
  ++counters.shared_requests;
  counters.shared_phases += phases;
  counters.shared_cycles += cycles;
  tally.phases += phases;
  tally.cycles += cycles;
}

void count_global(const Request& request, Counters& counters, SiteTally& tally) {
  std::array<uintptr_t, 2 * kWarpLanes> sectors;
  size_t num_sectors = 0;
  uint64_t bytes = 0;
  for (const LoggedAccess* access : request) {
    bytes += access->bytes;
    const uintptr_t last = (access->address + access->bytes - 1) >> kSectorShift;
    for (uintptr_t sector = access->address >> kSectorShift; sector <= last; ++sector) {
      const auto known_end = sectors.begin() + static_cast<std::ptrdiff_t>(num_sectors);
      if (std::find(sectors.begin(), known_end, sector) == known_end) sectors[num_sectors++] = sector;
    }
  }
  const uint64_t side_by_side = (bytes + (1u << kSectorShift) - 1) >> kSectorShift;
  const uint64_t ideal = std::min<uint64_t>(side_by_side, num_sectors);
  ++counters.global_requests;
  counters.global_sectors += num_sectors;
  counters.global_ideal_sectors += ideal;
  (request.front()->write ? counters.global_bytes_written : counters.global_bytes_read) += bytes;
  tally.sectors += num_sectors;
  tally.ideal_sectors += ideal;
}

void count_request(const Request& request, Counters& counters, SiteTallies& sites) {
  const LoggedAccess& access = *request.front();
  SiteTally& tally = sites[access.site];
  tally.shared = access.shared;
  tally.write = access.write;
  tally.bytes = access.bytes;
  ++tally.requests;
  tally.lanes += request.size();
  access.shared ? count_shared(request, counters, tally) : count_global(request, counters, tally);
}

bool same_instruction(const LoggedAccess& a, const LoggedAccess& b) {
  return a.site == b.site && a.bytes == b.bytes && a.write == b.write && a.shared == b.shared;
}

bool in_step(const std::vector<LoggedAccess>* const* logs, int num_lanes) {
  for (int lane = 1; lane < num_lanes; ++lane) {
    if (!std::equal(logs[0]->begin(), logs[0]->end(), logs[lane]->begin(), logs[lane]->end(), same_instruction)) {
      return false;
    }
  }
  return true;
}

// Lanes took different paths: the k-th accesses of the same place and kind belong together.
void count_apart(const std::vector<LoggedAccess>* const* logs, int num_lanes, Counters& counters, SiteTallies& sites) {
  struct Key {
    uint64_t site;
    int kind;
    int occurrence;
    auto operator<=>(const Key&) const = default;
  };
  std::map<Key, Request> requests;
  for (int lane = 0; lane < num_lanes; ++lane) {
    std::map<std::pair<uint64_t, int>, int> seen;
    for (const LoggedAccess& access : *logs[lane]) {
      const int kind = access.bytes * 4 + (access.write ? 2 : 0) + (access.shared ? 1 : 0);
      requests[{access.site.word(), kind, seen[{access.site.word(), kind}]++}].push_back(&access);
    }
  }
  for (const auto& [key, request] : requests) count_request(request, counters, sites);
}

}  // namespace

void count_requests(const std::vector<LoggedAccess>* const* logs, int num_lanes, Counters& counters,
                    SiteTallies& sites) {
  if (!in_step(logs, num_lanes)) return count_apart(logs, num_lanes, counters, sites);
  Request request(static_cast<size_t>(num_lanes));
  for (size_t i = 0; i < logs[0]->size(); ++i) {
    for (int lane = 0; lane < num_lanes; ++lane) request[static_cast<size_t>(lane)] = &(*logs[lane])[i];
    count_request(request, counters, sites);
  }
}

// Called where the lanes of a warp are together: what they did since the last time is grouped by place.
void Block::flush_log(Warp& warp) {
  if (!grid_->options.counters) return;
  std::array<const std::vector<LoggedAccess>*, kWarpLanes> logs;
  const int num_lanes = std::min(kWarpLanes, num_threads_ - warp.index * kWarpLanes);
  bool any = false;
  for (int i = 0; i < num_lanes; ++i) {
    logs[static_cast<size_t>(i)] = &lane(warp, i).log;
    any = any || !lane(warp, i).log.empty();
  }
  if (!any) return;
  count_requests(logs.data(), num_lanes, counters, sites);
  for (int i = 0; i < num_lanes; ++i) lane(warp, i).log.clear();
}

Counters& Counters::operator+=(const Counters& other) {
  blocks += other.blocks;
  block_barriers += other.block_barriers;
  warp_operations += other.warp_operations;
  mma += other.mma;
  ldmatrix += other.ldmatrix;
  atomics += other.atomics;
  global_requests += other.global_requests;
  global_sectors += other.global_sectors;
  global_ideal_sectors += other.global_ideal_sectors;
  global_bytes_read += other.global_bytes_read;
  global_bytes_written += other.global_bytes_written;
  shared_requests += other.shared_requests;
  shared_phases += other.shared_phases;
  shared_cycles += other.shared_cycles;
  return *this;
}

namespace {
double ratio(uint64_t numerator, uint64_t denominator) {
  return denominator == 0 ? 0.0 : static_cast<double>(numerator) / static_cast<double>(denominator);
}
}  // namespace

double Counters::sectors_per_request() const { return ratio(global_sectors, global_requests); }
double Counters::sector_factor() const { return ratio(global_sectors, global_ideal_sectors); }
double Counters::conflict_factor() const { return ratio(shared_cycles, shared_phases); }

}  // namespace gato::cuda_emulation
