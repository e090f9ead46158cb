#include "kernels/cuda/embedding.h"

#include <limits>

#include "kernels/cuda/arguments.h"
#include "kernels/cuda/block_reduce.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/radix_sort.h"
#include "kernels/cuda/search.h"
#include "kernels/cuda/vectors.h"

namespace gato::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarpSize;

/// The row that entry `i` looks up: null for none. Clears `valid` for an index that is in no table.
__device__ __forceinline__ const float* row_of(const Lookup& lookup, int64_t i, int64_t width, bool& valid) {
  const int64_t index = lookup.index[i];
  if (index == -1) return nullptr;
  if (index < 0 || index >= lookup.table_rows) {
    valid = false;
    return nullptr;
  }
  return lookup.table + index * width;
}

/// One warp per place.
template <int kCount>
__global__ void __launch_bounds__(kThreads) embedding_forward_kernel(EmbeddingForward call) {
  const int64_t place = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarpSize;
  if (place >= call.places) return;
  const int64_t width = call.width;
  bool valid = true;
  const float* token = row_of(call.tokens, place, width, valid);
  const float* local = row_of(call.local_positions, place, width, valid);
  const int64_t patch = call.patches > 0 ? find_ascending(call.patch_index, call.patches, place) : -1;
  const float* vector = patch >= 0 ? call.patch_vectors + patch * width : nullptr;
  const float* row = patch >= 0 ? row_of(call.patch_rows, patch, width, valid) : nullptr;
  const float* column = patch >= 0 ? row_of(call.patch_columns, patch, width, valid) : nullptr;
  float* y = call.y + place * width;
#pragma unroll 2
  for (int64_t i = threadIdx.x % kWarpSize * kCount; i < width; i += kWarpSize * kCount) {
    Floats<kCount> sum = all_of<kCount>(valid ? 0.0f : NAN);
    if (token != nullptr) add_to(sum, load_floats<kCount>(token + i));
    if (local != nullptr) add_to(sum, load_floats<kCount>(local + i));
    if (vector != nullptr) add_to(sum, load_floats<kCount>(vector + i));
    if (row != nullptr) add_to(sum, load_floats<kCount>(row + i));
    if (column != nullptr) add_to(sum, load_floats<kCount>(column + i));
    store_floats(y + i, sum);
  }
}

// --------------------------------------------------------------------------------------------------- backward

/// Entries that one block sums on its own. A run of equal rows that lies inside is added to the table at once; what it
/// has of runs that reach over its ends becomes a partial sum: `head` of the run that came in, `tail` of one that
/// begins here and goes on.
constexpr int kPiece = 32;

struct SortedEntries {
  const uint32_t* rows;     ///< Ascending; table_rows for entries that add nothing.
  const uint32_t* entries;  ///< Which entry of the call.
  float* heads;             ///< [pieces, width]
  float* tails;
};

/// A piece of the sorted entries and how its first and last run go on outside.
struct Piece {
  int begin, end;
  bool first_came_in, last_goes_on;
};
__device__ __forceinline__ Piece piece_at(const uint32_t* rows, int64_t count, unsigned number) {
  const int begin = static_cast<int>(number) * kPiece;
  const int left = static_cast<int>(count) - begin;
  const int end = begin + (left < kPiece ? left : kPiece);
  return {begin, end, begin > 0 && rows[begin - 1] == rows[begin], left > kPiece && rows[end] == rows[end - 1]};
}

template <int kCount>
__device__ __forceinline__ Floats<kCount> gradient_of(const EmbeddingBackward& call, uint32_t entry, int64_t column) {
  const int64_t place = call.places == nullptr ? entry : call.places[entry];
  if (place < 0 || place >= call.gradient_rows) return all_of<kCount>(0.0f);
  return load_floats<kCount>(call.gradient + place * call.width + column);
}

template <int kCount>
__device__ __forceinline__ void add_to_memory(float* to, Floats<kCount> sum) {
  add_to(sum, load_floats<kCount>(to));
  store_floats(to, sum);
}

/// Block (piece, column block): a thread sums kCount columns of the piece's runs.
template <int kCount>
__global__ void __launch_bounds__(kThreads) sum_runs_kernel(EmbeddingBackward call, SortedEntries sorted) {
  const int64_t column = (static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x) * kCount;
  if (column >= call.width) return;
  const Piece piece = piece_at(sorted.rows, call.count, blockIdx.x);
  const int64_t slot = blockIdx.x * call.width + column;
  int start = piece.begin;
  while (start < piece.end) {
    const uint32_t row = sorted.rows[start];
    if (row >= call.table_rows) return;
    int end = start + 1;
    while (end < piece.end && sorted.rows[end] == row) ++end;
    Floats<kCount> sum = all_of<kCount>(0.0f);
#pragma unroll 4
    for (int i = start; i < end; ++i) add_to(sum, gradient_of<kCount>(call, sorted.entries[i], column));
    if (start == piece.begin && piece.first_came_in) {
      store_floats(sorted.heads + slot, sum);
    } else if (end == piece.end && piece.last_goes_on) {
      store_floats(sorted.tails + slot, sum);
    } else {
      add_to_memory(call.table_gradient + row * call.width + column, sum);
    }
    start = end;
  }
}

/// Block (piece, column block): adds up the partial sums of the run that begins in the piece and goes on behind it.
template <int kCount>
__global__ void __launch_bounds__(kThreads) join_runs_kernel(EmbeddingBackward call, SortedEntries sorted) {
  const int64_t column = (static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x) * kCount;
  if (column >= call.width) return;
  const Piece piece = piece_at(sorted.rows, call.count, blockIdx.x);
  const uint32_t row = sorted.rows[piece.end - 1];
  const bool begins_here = !(piece.first_came_in && sorted.rows[piece.begin] == row);
  if (row >= call.table_rows || !piece.last_goes_on || !begins_here) return;
  const int64_t run_end = lower_bound(sorted.rows, call.count, row + 1);
  const int64_t last = (run_end - 1) / kPiece;
  Floats<kCount> sum = load_floats<kCount>(sorted.tails + blockIdx.x * call.width + column);
#pragma unroll 4
  for (int64_t p = blockIdx.x + int64_t{1}; p <= last; ++p) {
    add_to(sum, load_floats<kCount>(sorted.heads + p * call.width + column));
  }
  add_to_memory(call.table_gradient + row * call.width + column, sum);
}

/// Regions of the workspace.
struct Regions {
  RadixSortMemory sort;
  float *heads, *tails;
};
Regions divide(Workspace& workspace, int64_t count, int64_t width) {
  Regions regions{};
  regions.sort = divide_radix_sort_memory(workspace, count);
  const int64_t partial = ceil_div(count, kPiece) * width;
  regions.heads = workspace.take<float>(partial);
  regions.tails = workspace.take<float>(partial);
  return regions;
}

void check_lookup(const Lookup& lookup, const char* name) {
  check_range(lookup.table_rows, 0, std::numeric_limits<int32_t>::max(), name);
  if (lookup.table_rows > 0) check_pointer(lookup.table, name);
  check_pointer(lookup.index, name);
}

}  // namespace

void embedding_forward(const EmbeddingForward& call, Stream stream) {
  check_range(call.places, 0, int64_t{1} << 32, "places");
  check_range(call.width, 1, int64_t{1} << 30, "width");
  check_range(call.patches, 0, call.places, "patches");
  if (call.places == 0) return;
  check_lookup(call.tokens, "tokens");
  check_lookup(call.local_positions, "local_positions");
  if (call.patches > 0) {
    check_pointer(call.patch_index, "patch_index");
    check_pointer(call.patch_vectors, "patch_vectors");
    check_lookup(call.patch_rows, "patch_rows");
    check_lookup(call.patch_columns, "patch_columns");
  }
  check_pointer(call.y, "y");
  const bool vectors =
      call.width % 4 == 0 && all_aligned(16, call.tokens.table, call.local_positions.table, call.patch_vectors,
                                         call.patch_rows.table, call.patch_columns.table, call.y);
  launch({"embedding_forward", num_blocks(call.places, kWarps), kThreads, 0, stream},
         vectors ? embedding_forward_kernel<4> : embedding_forward_kernel<1>, call);
}

size_t embedding_backward_workspace(int64_t count, int64_t width) {
  check_range(count, 0, std::numeric_limits<int32_t>::max(), "count");
  check_range(width, 1, int64_t{1} << 30, "width");
  Workspace workspace(nullptr);
  static_cast<void>(divide(workspace, count, width));
  return workspace.bytes();
}

void embedding_backward(const EmbeddingBackward& call, Stream stream) {
  check_range(call.count, 0, std::numeric_limits<int32_t>::max(), "count");
  check_range(call.width, 1, int64_t{65535} * kThreads, "width");
  check_range(call.table_rows, 0, std::numeric_limits<int32_t>::max(), "table_rows");
  check_range(call.gradient_rows, 0, int64_t{1} << 32, "gradient_rows");
  if (call.count == 0 || call.table_rows == 0) return;
  check_pointer(call.index, "index");
  check_optional(call.places, "places");
  if (call.gradient_rows > 0) check_pointer(call.gradient, "gradient");
  check_pointer(call.table_gradient, "table_gradient");
  check_pointer(call.workspace, 16, "workspace");
  Workspace workspace(call.workspace);
  const Regions regions = divide(workspace, call.count, call.width);
  const SortedItems sorted =
      radix_sort(call.index, call.count, static_cast<uint32_t>(call.table_rows), regions.sort, stream);
  const SortedEntries entries{sorted.keys, sorted.items, regions.heads, regions.tails};
  const bool vectors = call.width % 4 == 0 && all_aligned(16, call.gradient, call.table_gradient, call.workspace);
  const dim3 grid(num_blocks(call.count, kPiece), num_blocks(call.width, kThreads * (vectors ? 4 : 1)));
  launch({"sum_runs", grid, kThreads, 0, stream}, vectors ? sum_runs_kernel<4> : sum_runs_kernel<1>, call, entries);
  launch({"join_runs", grid, kThreads, 0, stream}, vectors ? join_runs_kernel<4> : join_runs_kernel<1>, call, entries);
}

}  // namespace gato::kernels::cuda
