#include "kernels/cuda/reduce.h"

#include <algorithm>

#include "kernels/cuda/arguments.h"
#include "kernels/cuda/block_reduce.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/vectors.h"

namespace gato::kernels::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;

/// Groups of rows that are summed apart. Of the rows alone, so that every device sums alike.
int64_t num_groups(int64_t rows) { return std::clamp<int64_t>(ceil_div(rows, 64), 1, 128); }

/// Block (x, y) sums columns [x, x + 1) * 32 kCount of rows [y, y + 1) * rows_per_group: warp w takes every kWarps-th
/// row, then the warps' sums are added in order.
template <class T, int kCount>
__global__ void __launch_bounds__(kThreads)
    column_sums_kernel(const T* x, int64_t rows, int64_t width, int64_t rows_per_group, float* partial) {
  GATO_SHARED(float, sums, kWarps* kWarpSize* kCount);
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int64_t column = (static_cast<int64_t>(blockIdx.x) * kWarpSize + lane) * kCount;
  const int64_t begin = blockIdx.y * rows_per_group;
  const int64_t left = rows - begin;
  const int group = static_cast<int>(left < rows_per_group ? left : rows_per_group);
  Floats<kCount> total = all_of<kCount>(0.0f);
  if (column < width) {
    const T* from = x + begin * width + column;
#pragma unroll 4
    for (int row = warp; row < group; row += kWarps) add_to(total, load_floats<kCount>(from + row * width));
  }
  // Laid out by element, then lane: a warp's accesses fall into 32 banks.
#pragma unroll
  for (int k = 0; k < kCount; ++k) sums[(warp * kCount + k) * kWarpSize + lane] = total.v[k];
  __syncthreads();
  if (warp != 0 || column >= width) return;
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    float sum = sums[k * kWarpSize + lane];
    for (int w = 1; w < kWarps; ++w) sum += sums[(w * kCount + k) * kWarpSize + lane];
    total.v[k] = sum;
  }
  float* to = partial + blockIdx.y * width + column;
  if constexpr (kCount == 8) {
    store_floats(to, Floats<4>{{total.v[0], total.v[1], total.v[2], total.v[3]}});
    store_floats(to + 4, Floats<4>{{total.v[4], total.v[5], total.v[6], total.v[7]}});
  } else {
    store_floats(to, total);
  }
}

template <class T>
void launch_column_sums(const ColumnSums& call, Stream stream) {
  const auto* x = static_cast<const T*>(call.x);
  auto* partial = static_cast<float*>(call.workspace);
  const int64_t groups = num_groups(call.rows);
  const int64_t rows_per_group = ceil_div(call.rows, groups);
  constexpr int kCount = kFullVector<T>;
  const bool vectors = call.width % kCount == 0 && is_aligned(x, 16);
  const dim3 grid(num_blocks(call.width, kWarpSize * (vectors ? kCount : 1)), static_cast<unsigned>(groups));
  launch({"column_sums", grid, kThreads, 0, stream}, vectors ? column_sums_kernel<T, kCount> : column_sums_kernel<T, 1>,
         x, call.rows, call.width, rows_per_group, partial);
}

constexpr int kFoldWarps = 16;

/// Block (x, y) folds columns [x, x + 1) * 32 of array y: warp w takes every kFoldWarps-th part.
__global__ void __launch_bounds__(kFoldWarps* kWarpSize) fold_partial_sums_kernel(PartialSums call) {
  GATO_SHARED(float, sums, kFoldWarps* kWarpSize);
  float* totals = blockIdx.y == 0 ? call.first : call.second;
  if (totals == nullptr) return;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int64_t column = static_cast<int64_t>(blockIdx.x) * kWarpSize + lane;
  const float* from = call.partial + blockIdx.y * call.width + column;
  float total = 0;
  if (column < call.width) {
#pragma unroll 4
    for (int64_t part = warp; part < call.parts; part += kFoldWarps) total += from[part * call.stride];
  }
  sums[threadIdx.x] = total;
  __syncthreads();
  if (warp != 0 || column >= call.width) return;
  for (int w = 1; w < kFoldWarps; ++w) total += sums[w * kWarpSize + lane];
  totals[column] += total;
}

constexpr int kSumThreads = 1024;

__global__ void __launch_bounds__(kSumThreads) weighted_sum_kernel(WeightedSum call) {
  GATO_SHARED(double, scratch, kMaxWarps);
  double total = 0;
  for (int64_t p = threadIdx.x; p < call.positions; p += kSumThreads) {
    total += static_cast<double>(call.loss[p]) * static_cast<double>(call.weights[p]);
  }
  total = block_reduce(total, scratch, Sum{});
  if (threadIdx.x == 0) *call.total += total;
}

/// Parts that a squared norm is summed in.
int64_t num_norm_parts(int64_t count) { return std::clamp<int64_t>(ceil_div(count, 16 * kThreads), 1, 1024); }

template <int kCount>
__global__ void __launch_bounds__(kThreads) square_sum_kernel(const float* x, int64_t count, double* parts) {
  GATO_SHARED(double, scratch, kMaxWarps);
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int64_t step = static_cast<int64_t>(gridDim.x) * kThreads;
  const int64_t vectors = count / kCount;
  double total = 0;
#pragma unroll 4
  for (int64_t i = thread; i < vectors; i += step) {
    const Floats<kCount> value = load_floats<kCount>(x + i * kCount);
#pragma unroll
    for (int k = 0; k < kCount; ++k) total += static_cast<double>(value.v[k]) * static_cast<double>(value.v[k]);
  }
  const int64_t rest = vectors * kCount + thread;  // fewer than kCount elements
  if (rest < count) total += static_cast<double>(x[rest]) * static_cast<double>(x[rest]);
  total = block_reduce(total, scratch, Sum{});
  if (threadIdx.x == 0) parts[blockIdx.x] = total;
}

__global__ void __launch_bounds__(kThreads) fold_square_sums_kernel(const double* parts, int64_t count, double* norm) {
  GATO_SHARED(double, scratch, kMaxWarps);
  double total = 0;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) total += parts[i];
  total = block_reduce(total, scratch, Sum{});
  if (threadIdx.x == 0) *norm = total;
}

void check_shape(int64_t rows, int64_t width) {
  check_range(rows, 0, int64_t{1} << 32, "rows");
  check_range(width, 0, int64_t{1} << 32, "width");
}

}  // namespace

size_t column_sums_workspace(int64_t rows, int64_t width) {
  check_shape(rows, width);
  return static_cast<size_t>(num_groups(rows) * width) * sizeof(float);
}

void add_column_sums(const ColumnSums& call, Stream stream) {
  check_element(call.element, "add_column_sums");
  check_shape(call.rows, call.width);
  if (call.rows == 0 || call.width == 0) return;
  check_pointer(call.x, element_bytes(call.element), "x");
  check_pointer(call.totals, "totals");
  check_pointer(call.workspace, 16, "workspace");
  if (call.element == Element::kBFloat16) {
    launch_column_sums<BFloat16>(call, stream);
  } else {
    launch_column_sums<float>(call, stream);
  }
  const auto* partial = static_cast<const float*>(call.workspace);
  fold_partial_sums({partial, num_groups(call.rows), call.width, call.width, call.totals, nullptr}, stream);
}

void fold_partial_sums(const PartialSums& call, Stream stream) {
  check_range(call.width, 0, int64_t{1} << 32, "width");
  check_range(call.parts, 0, int64_t{1} << 32, "parts");
  check_optional(call.first, "first");
  check_optional(call.second, "second");
  if (call.width == 0 || call.parts == 0 || (call.first == nullptr && call.second == nullptr)) return;
  check_pointer(call.partial, "partial");
  check_range(call.stride, call.second == nullptr ? call.width : 2 * call.width, int64_t{1} << 40, "stride");
  const dim3 grid(num_blocks(call.width, kWarpSize), call.second == nullptr ? 1 : 2);
  launch({"fold_partial_sums", grid, kFoldWarps * kWarpSize, 0, stream}, fold_partial_sums_kernel, call);
}

void add_weighted_sum(const WeightedSum& call, Stream stream) {
  check_range(call.positions, 0, int64_t{1} << 40, "positions");
  if (call.positions == 0) return;
  check_pointer(call.loss, "loss");
  check_pointer(call.weights, "weights");
  check_pointer(call.total, "total");
  launch({"weighted_sum", 1, kSumThreads, 0, stream}, weighted_sum_kernel, call);
}

size_t squared_norm_workspace(int64_t count) {
  check_range(count, 0, int64_t{1} << 50, "count");
  return static_cast<size_t>(num_norm_parts(count)) * sizeof(double);
}

void squared_norm(const SquaredNorm& call, Stream stream) {
  check_range(call.count, 0, int64_t{1} << 50, "count");
  if (call.count > 0) check_pointer(call.x, "x");
  check_pointer(call.norm, "norm");
  check_pointer(call.workspace, 8, "workspace");
  auto* parts = static_cast<double*>(call.workspace);
  const int64_t number = num_norm_parts(call.count);
  launch({"square_sum", static_cast<unsigned>(number), kThreads, 0, stream},
         is_aligned(call.x, 16) ? square_sum_kernel<4> : square_sum_kernel<1>, call.x, call.count, parts);
  launch({"fold_square_sums", 1, kThreads, 0, stream}, fold_square_sums_kernel, parts, number, call.norm);
}

}  // namespace gato::kernels::cuda
