#include "kernels/cuda/radix_sort.h"

#include <bit>

#include "kernels/cuda/block_reduce.h"
#include "kernels/cuda/device.h"

// Least significant digit first, eight bits at a time: count the digits of every tile, turn the counts into the places
// where each tile's keys of each digit go, move. Counts are integers, so the order of their atomic additions is no
// matter.
namespace gato::kernels::cuda {
namespace {

constexpr int kDigits = 256;
constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kRounds = 8;  // keys per thread
constexpr int kTile = kThreads * kRounds;
constexpr int kScanThreads = 1024;

/// One pass: what is sorted, by which digit.
struct Pass {
  const int32_t* index;  ///< Of the first pass, else null.
  const uint32_t* keys;  ///< Of later passes.
  const uint32_t* items;
  uint32_t limit;
  int64_t count;
  int shift;

  [[nodiscard]] __device__ __forceinline__ uint32_t key(int64_t i) const {
    if (index == nullptr) return keys[i];
    const auto key = static_cast<uint32_t>(index[i]);
    return key < limit ? key : limit;
  }
  [[nodiscard]] __device__ __forceinline__ uint32_t item(int64_t i) const {
    return index == nullptr ? items[i] : static_cast<uint32_t>(i);
  }
  [[nodiscard]] __device__ __forceinline__ int digit(uint32_t key) const {
    return static_cast<int>(key >> shift & (kDigits - 1));
  }
};

/// counts[digit, tile] = how many keys of the tile have the digit.
__global__ void __launch_bounds__(kThreads) count_digits_kernel(Pass pass, uint32_t* counts) {
  GATO_SHARED(unsigned, found, kDigits);
  found[threadIdx.x] = 0;
  __syncthreads();
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kTile;
#pragma unroll
  for (int round = 0; round < kRounds; ++round) {
    const int64_t i = begin + round * kThreads + threadIdx.x;
    if (i < pass.count) atomicAdd(&found[pass.digit(pass.key(i))], 1u);
  }
  __syncthreads();
  counts[static_cast<int64_t>(threadIdx.x) * gridDim.x + blockIdx.x] = found[threadIdx.x];
}

/// Replaces every count by the sum of those before it. One block.
__global__ void __launch_bounds__(kScanThreads) scan_counts_kernel(uint32_t* counts, int64_t number) {
  GATO_SHARED(uint32_t, scratch, 2 * kMaxWarps);
  BlockReducer<uint32_t> reducer(scratch);
  uint32_t before = 0;
  for (int64_t begin = 0; begin < number; begin += kScanThreads) {
    const int64_t i = begin + threadIdx.x;
    uint32_t total;
    const uint32_t own = i < number ? counts[i] : 0;
    const uint32_t sum = reducer.exclusive_sum(own, &total);
    if (i < number) counts[i] = before + sum;
    before += total;
  }
}

/// Lanes whose digit is this lane's; none of them for lanes outside the array.
__device__ __forceinline__ unsigned lanes_with(int digit, bool inside) {
  unsigned lanes = __ballot_sync(kFullMask, inside);
#pragma unroll
  for (int bit = 0; bit < 8; ++bit) {
    const bool set = (digit >> bit & 1) != 0;
    const unsigned with_bit = __ballot_sync(kFullMask, set);
    lanes &= set ? with_bit : ~with_bit;
  }
  return inside ? lanes : 0;
}

/// Moves a tile's items to their places. A warp has kRounds * 32 neighbouring keys, 32 at a time, so that "before"
/// means earlier warps, then earlier rounds, then lower lanes: stable.
__global__ void __launch_bounds__(kThreads)
    move_items_kernel(Pass pass, const uint32_t* offsets, uint32_t* keys, uint32_t* items) {
  GATO_SHARED(uint32_t, next, kWarps * kDigits);  // counts of each warp, then the place of its next key of each digit
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * kTile + warp * kRounds * kWarpSize + lane;
  uint32_t* const own = next + warp * kDigits;
  for (int digit = lane; digit < kDigits; digit += kWarpSize) own[digit] = 0;
  uint32_t key[kRounds];
  unsigned alike[kRounds];
#pragma unroll
  for (int round = 0; round < kRounds; ++round) {
    const int64_t i = begin + round * kWarpSize;
    key[round] = i < pass.count ? pass.key(i) : 0;
    alike[round] = lanes_with(pass.digit(key[round]), i < pass.count);
    __syncwarp();
    if (alike[round] != 0 && __ffs(static_cast<int>(alike[round])) - 1 == lane) {
      own[pass.digit(key[round])] += static_cast<uint32_t>(__popc(alike[round]));
    }
  }
  __syncthreads();
  uint32_t place = offsets[static_cast<int64_t>(threadIdx.x) * gridDim.x + blockIdx.x];
  for (int w = 0; w < kWarps; ++w) {
    const uint32_t number = next[w * kDigits + static_cast<int>(threadIdx.x)];
    next[w * kDigits + static_cast<int>(threadIdx.x)] = place;
    place += number;
  }
  __syncthreads();
#pragma unroll
  for (int round = 0; round < kRounds; ++round) {
    const int64_t i = begin + round * kWarpSize;
    const int digit = pass.digit(key[round]);
    const uint32_t first = own[digit];
    __syncwarp();
    if (i < pass.count) {
      const uint32_t to = first + static_cast<uint32_t>(__popc(alike[round] & ((1u << lane) - 1)));
      keys[to] = key[round];
      items[to] = pass.item(i);
      if (__ffs(static_cast<int>(alike[round])) - 1 == lane) {
        own[digit] = first + static_cast<uint32_t>(__popc(alike[round]));
      }
    }
    __syncwarp();
  }
}

}  // namespace

RadixSortMemory divide_radix_sort_memory(Workspace& workspace, int64_t count) {
  RadixSortMemory memory{};
  for (int i = 0; i < 2; ++i) {
    memory.keys[i] = workspace.take<uint32_t>(count);
    memory.items[i] = workspace.take<uint32_t>(count);
  }
  memory.counts = workspace.take<uint32_t>(ceil_div(count, kTile) * kDigits);
  return memory;
}

SortedItems radix_sort(const int32_t* index, int64_t count, uint32_t limit, const RadixSortMemory& memory,
                       Stream stream) {
  const unsigned tiles = num_blocks(count, kTile);
  Pass pass{index, nullptr, nullptr, limit, count, 0};
  int to = 0;
  const auto bits = static_cast<int>(std::bit_width(limit));
  for (; pass.shift < bits; pass.shift += 8) {
    launch({"count_digits", tiles, kThreads, 0, stream}, count_digits_kernel, pass, memory.counts);
    launch({"scan_counts", 1, kScanThreads, 0, stream}, scan_counts_kernel, memory.counts, int64_t{tiles} * kDigits);
    launch({"move_items", tiles, kThreads, 0, stream}, move_items_kernel, pass, memory.counts, memory.keys[to],
           memory.items[to]);
    pass.index = nullptr;
    pass.keys = memory.keys[to];
    pass.items = memory.items[to];
    to ^= 1;
  }
  return {pass.keys, pass.items};
}

}  // namespace gato::kernels::cuda
