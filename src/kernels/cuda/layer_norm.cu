#include "kernels/cuda/layer_norm.h"

#include <algorithm>

#include "kernels/cuda/arguments.h"
#include "kernels/cuda/block_reduce.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/reduce.h"
#include "kernels/cuda/vectors.h"

namespace gato::kernels::cuda {
namespace {

constexpr int kForwardThreads = 128;
constexpr int kRowsPerBlock = kForwardThreads / kWarpSize;

__device__ __forceinline__ float factor_of(const float* factors, int64_t row, int64_t rows_per_factor) {
  return factors == nullptr ? 1.0f : factors[row / rows_per_factor];
}

/// kCount elements of the sum at `at`.
template <class T, int kCount>
__device__ __forceinline__ Floats<kCount> sum_at(const LayerNormForward& call, int64_t at, float factor) {
  Floats<kCount> value = load_floats<kCount>(call.x + at);
  if (call.delta == nullptr) return value;
  const Floats<kCount> delta = load_floats<kCount>(static_cast<const T*>(call.delta) + at);
#pragma unroll
  for (int k = 0; k < kCount; ++k) value.v[k] += factor * delta.v[k];
  return value;
}

template <class T, int kCount>
__device__ __forceinline__ void put_normal(const LayerNormForward& call, int64_t at, int64_t column,
                                           const Floats<kCount>& value, float mean, float inverse) {
  const Floats<kCount> gain = load_floats<kCount>(call.gain + column);
  const Floats<kCount> offset = load_floats<kCount>(call.offset + column);
  Floats<kCount> y;
#pragma unroll
  for (int k = 0; k < kCount; ++k) y.v[k] = (value.v[k] - mean) * inverse * gain.v[k] + offset.v[k];
  store_floats(static_cast<T*>(call.y) + at, y);
}

template <int kCount>
__device__ __forceinline__ float square_deviation(const Floats<kCount>& value, float mean) {
  float total = 0;
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    const float d = value.v[k] - mean;
    total += d * d;
  }
  return total;
}

/// One warp per row, the row in registers: kChunks vectors of kCount per lane.
template <class T, int kCount, int kChunks>
__global__ void __launch_bounds__(kForwardThreads) layer_norm_forward_in_registers(LayerNormForward call) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kRowsPerBlock + threadIdx.x / kWarpSize;
  if (row >= call.rows) return;
  const int first = static_cast<int>(threadIdx.x % kWarpSize) * kCount;
  const int width = static_cast<int>(call.width);
  const float factor = factor_of(call.factors, row, call.rows_per_factor);
  Floats<kCount> values[kChunks];
  float total = 0;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const int column = c * kWarpSize * kCount + first;
    if (column >= width) continue;
    values[c] = sum_at<T, kCount>(call, row * width + column, factor);
    total += sum_of(values[c]);
  }
  if (call.delta != nullptr) {  // stored behind all loads: the sum may be `x`, so loads cannot move before stores
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int column = c * kWarpSize * kCount + first;
      if (column < width) store_floats(call.sum + row * width + column, values[c]);
    }
  }
  const float mean = warp_reduce(total, Sum{}) / static_cast<float>(width);
  float squares = 0;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    if (c * kWarpSize * kCount + first < width) squares += square_deviation(values[c], mean);
  }
  const float variance = warp_reduce(squares, Sum{}) / static_cast<float>(width);
  const float inverse = 1.0f / sqrtf(variance + call.epsilon);
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const int column = c * kWarpSize * kCount + first;
    if (column < width) put_normal<T>(call, row * width + column, column, values[c], mean, inverse);
  }
  if (first == 0) {
    call.mean[row] = mean;
    call.inverse_deviation[row] = inverse;
  }
}

/// One warp per row of any width. The row is read three times, twice from the caches; each lane reads what it wrote.
template <class T, int kCount>
__global__ void __launch_bounds__(kForwardThreads) layer_norm_forward_from_memory(LayerNormForward call) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kRowsPerBlock + threadIdx.x / kWarpSize;
  if (row >= call.rows) return;
  const int first = static_cast<int>(threadIdx.x % kWarpSize) * kCount;
  const int width = static_cast<int>(call.width);
  constexpr int kStep = kWarpSize * kCount;
  const float factor = factor_of(call.factors, row, call.rows_per_factor);
  float total = 0;
  for (int column = first; column < width; column += kStep) {
    const Floats<kCount> value = sum_at<T, kCount>(call, row * width + column, factor);
    if (call.delta != nullptr) store_floats(call.sum + row * width + column, value);
    total += sum_of(value);
  }
  const float mean = warp_reduce(total, Sum{}) / static_cast<float>(width);
  const float* sum = (call.delta == nullptr ? call.x : call.sum) + row * width;
  float squares = 0;
  for (int column = first; column < width; column += kStep) {
    squares += square_deviation(load_floats<kCount>(sum + column), mean);
  }
  const float variance = warp_reduce(squares, Sum{}) / static_cast<float>(width);
  const float inverse = 1.0f / sqrtf(variance + call.epsilon);
  for (int column = first; column < width; column += kStep) {
    put_normal<T>(call, row * width + column, column, load_floats<kCount>(sum + column), mean, inverse);
  }
  if (first == 0) {
    call.mean[row] = mean;
    call.inverse_deviation[row] = inverse;
  }
}

template <class T>
void launch_forward(const LayerNormForward& call, Stream stream) {
  const bool vectors = call.width % 4 == 0 && all_aligned(16, call.x, call.gain, call.offset, call.sum) &&
                       all_aligned(4 * sizeof(T), call.delta, call.y);
  const Launch shape{"layer_norm_forward", num_blocks(call.rows, kRowsPerBlock), kForwardThreads, 0, stream};
  if (!vectors) {
    launch(shape, layer_norm_forward_from_memory<T, 1>, call);
  } else if (call.width <= 256) {
    launch(shape, layer_norm_forward_in_registers<T, 4, 2>, call);
  } else if (call.width <= 768) {
    launch(shape, layer_norm_forward_in_registers<T, 4, 6>, call);
  } else if (call.width <= 1536) {
    launch(shape, layer_norm_forward_in_registers<T, 4, 12>, call);
  } else if (call.width <= 2048) {
    launch(shape, layer_norm_forward_in_registers<T, 4, 16>, call);
  } else {
    launch(shape, layer_norm_forward_from_memory<T, 4>, call);
  }
}

// --------------------------------------------------------------------------------------------------- backward

/// Blocks of the backward pass. Many enough to fill a device whatever the width, and few enough that their partial sums
/// stay small beside the rows; of the shape alone, so that every device sums alike.
int64_t num_groups(int64_t rows, int64_t width) {
  constexpr int64_t kPartialSums = 264 * 2048;
  return std::min(rows, std::clamp<int64_t>(kPartialSums / width, 132, 1056));
}

/// What the gradient of a row is made of at kCount columns.
template <int kCount>
struct Terms {
  Floats<kCount> normal;  ///< (sum - mean) / deviation
  Floats<kCount> scaled;  ///< y's gradient x gain
};

/// The terms at `column` of `row`; `y_gradient` receives y's gradient there.
template <class T, int kCount>
__device__ __forceinline__ Terms<kCount> terms_at(const LayerNormBackward& call, int64_t row, int column,
                                                  Floats<kCount>& y_gradient) {
  const int64_t at = row * call.width + column;
  Terms<kCount> terms;
  terms.normal = load_floats<kCount>(call.sum + at);
  y_gradient = load_floats<kCount>(static_cast<const T*>(call.y_gradient) + at);
  const Floats<kCount> gain = load_floats<kCount>(call.gain + column);
  const float mean = call.mean[row];
  const float inverse = call.inverse_deviation[row];
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    terms.normal.v[k] = (terms.normal.v[k] - mean) * inverse;
    terms.scaled.v[k] = y_gradient.v[k] * gain.v[k];
  }
  return terms;
}

/// What flows into the sum at `at` besides.
template <int kCount>
__device__ __forceinline__ Floats<kCount> sum_gradient_at(const LayerNormBackward& call, int64_t at) {
  return call.sum_gradient == nullptr ? all_of<kCount>(0.0f) : load_floats<kCount>(call.sum_gradient + at);
}

/// Writes the gradients of x and delta at `column`, given the means over the row of scaled and scaled x normal.
template <class T, int kCount>
__device__ __forceinline__ void put_gradients(const LayerNormBackward& call, int64_t row, int column,
                                              const Terms<kCount>& terms, const Floats<kCount>& sum_gradient,
                                              float mean_1, float mean_2) {
  const int64_t at = row * call.width + column;
  const float inverse = call.inverse_deviation[row];
  Floats<kCount> dx;
#pragma unroll
  for (int k = 0; k < kCount; ++k) dx.v[k] = inverse * (terms.scaled.v[k] - mean_1 - terms.normal.v[k] * mean_2);
  add_to(dx, sum_gradient);
  store_floats(call.x_gradient + at, dx);
  if (call.delta_gradient == nullptr) return;
  const float factor = factor_of(call.factors, row, call.rows_per_factor);
#pragma unroll
  for (int k = 0; k < kCount; ++k) dx.v[k] *= factor;
  store_floats(static_cast<T*>(call.delta_gradient) + at, dx);
}

/// A block per group of rows, a row across the block: kChunks vectors of four per thread, in registers.
template <class T, int kChunks, int kThreads>
__global__ void __launch_bounds__(kThreads) layer_norm_backward_in_registers(LayerNormBackward call, float* partial) {
  constexpr int kCount = 4;
  GATO_SHARED(float, scratch, 4 * kMaxWarps);
  const int width = static_cast<int>(call.width);
  const int step = static_cast<int>(blockDim.x) * kCount;
  const int first = static_cast<int>(threadIdx.x) * kCount;
  Floats<kCount> gain_sums[kChunks], offset_sums[kChunks];
#pragma unroll
  for (int c = 0; c < kChunks; ++c) gain_sums[c] = offset_sums[c] = all_of<kCount>(0.0f);
  constexpr bool kEarly = kChunks <= 2;  // loads all before the barrier, where there are registers for it
  int set = 0;  // of scratch: two take turns, so that a row needs one barrier (see BlockReducer)
  for (int64_t row = blockIdx.x; row < call.rows; row += gridDim.x, set ^= 1) {
    Terms<kCount> terms[kChunks];
    Floats<kCount> extra[kChunks];
    float total = 0, weighted = 0;
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int column = c * step + first;
      if (column >= width) continue;
      Floats<kCount> dy;
      terms[c] = terms_at<T, kCount>(call, row, column, dy);
      if constexpr (kEarly) extra[c] = sum_gradient_at<kCount>(call, row * width + column);
#pragma unroll
      for (int k = 0; k < kCount; ++k) {
        gain_sums[c].v[k] += dy.v[k] * terms[c].normal.v[k];
        offset_sums[c].v[k] += dy.v[k];
        total += terms[c].scaled.v[k];
        weighted += terms[c].scaled.v[k] * terms[c].normal.v[k];
      }
    }
    block_sum_pair(total, weighted, scratch + set * 2 * kMaxWarps);
    const float mean_1 = total / static_cast<float>(width);
    const float mean_2 = weighted / static_cast<float>(width);
#pragma unroll
    for (int c = 0; c < kChunks; ++c) {
      const int column = c * step + first;
      if (column >= width) continue;
      if constexpr (!kEarly) extra[c] = sum_gradient_at<kCount>(call, row * width + column);
      put_gradients<T>(call, row, column, terms[c], extra[c], mean_1, mean_2);
    }
  }
  if (partial == nullptr) return;
  float* sums = partial + static_cast<int64_t>(blockIdx.x) * 2 * width;
#pragma unroll
  for (int c = 0; c < kChunks; ++c) {
    const int column = c * step + first;
    if (column >= width) continue;
    store_floats(sums + column, gain_sums[c]);
    store_floats(sums + width + column, offset_sums[c]);
  }
}

constexpr unsigned kAnyThreads = 256;

/// The same for any width and alignment: a row's terms are made twice, the second time from the caches, and the group's
/// sums are in shared memory [2, width], where each thread touches its own columns alone.
template <class T>
__global__ void __launch_bounds__(kAnyThreads) layer_norm_backward_from_memory(LayerNormBackward call, float* partial) {
  GATO_SHARED(float, scratch, 4 * kMaxWarps);
  GATO_DYNAMIC_SHARED(float, sums);
  const int width = static_cast<int>(call.width);
  const int first = static_cast<int>(threadIdx.x);
  for (int column = first; column < width; column += kAnyThreads) sums[column] = sums[width + column] = 0;
  int set = 0;
  for (int64_t row = blockIdx.x; row < call.rows; row += gridDim.x, set ^= 1) {
    float total = 0, weighted = 0;
    for (int column = first; column < width; column += kAnyThreads) {
      Floats<1> dy;
      const Terms<1> terms = terms_at<T, 1>(call, row, column, dy);
      sums[column] += dy.v[0] * terms.normal.v[0];
      sums[width + column] += dy.v[0];
      total += terms.scaled.v[0];
      weighted += terms.scaled.v[0] * terms.normal.v[0];
    }
    block_sum_pair(total, weighted, scratch + set * 2 * kMaxWarps);
    const float mean_1 = total / static_cast<float>(width);
    const float mean_2 = weighted / static_cast<float>(width);
    for (int column = first; column < width; column += kAnyThreads) {
      Floats<1> unused;
      const Terms<1> terms = terms_at<T, 1>(call, row, column, unused);
      put_gradients<T>(call, row, column, terms, sum_gradient_at<1>(call, row * width + column), mean_1, mean_2);
    }
  }
  if (partial == nullptr) return;
  float* const to = partial + static_cast<int64_t>(blockIdx.x) * 2 * width;
  for (int column = first; column < width; column += kAnyThreads) {
    to[column] = sums[column];
    to[width + column] = sums[width + column];
  }
}

template <class T>
void launch_backward(const LayerNormBackward& call, float* partial, Stream stream) {
  const bool vectors = call.width % 4 == 0 &&
                       all_aligned(16, call.sum, call.gain, call.sum_gradient, call.x_gradient, partial) &&
                       all_aligned(4 * sizeof(T), call.y_gradient, call.delta_gradient);
  const auto groups = static_cast<unsigned>(num_groups(call.rows, call.width));
  const auto shape = [&](int64_t chunks) {
    const int64_t warps = ceil_div(call.width, 4 * chunks * kWarpSize);
    return Launch{"layer_norm_backward", groups, static_cast<unsigned>(warps * kWarpSize), 0, stream};
  };
  if (!vectors) {
    const size_t sums = 2 * static_cast<size_t>(call.width) * sizeof(float);
    launch({"layer_norm_backward", groups, kAnyThreads, sums, stream}, layer_norm_backward_from_memory<T>, call,
           partial);
  } else if (call.width <= 1024) {
    launch(shape(1), layer_norm_backward_in_registers<T, 1, 256>, call, partial);
  } else if (call.width <= 2048) {
    launch(shape(2), layer_norm_backward_in_registers<T, 2, 256>, call, partial);
  } else {
    launch(shape(4), layer_norm_backward_in_registers<T, 4, 512>, call, partial);
  }
}

void check_shape(int64_t rows, int64_t width, const float* factors, int64_t rows_per_factor) {
  check_range(rows, 0, int64_t{1} << 40, "rows");
  check_range(width, 1, kLargestNormWidth, "width");
  check_optional(factors, "factors");
  GATO_CHECK(rows_per_factor >= 1, "rows_per_factor must be positive, is ", rows_per_factor);
}

}  // namespace

void layer_norm_forward(const LayerNormForward& call, Stream stream) {
  check_element(call.element, "layer_norm_forward");
  check_shape(call.rows, call.width, call.factors, call.rows_per_factor);
  if (call.rows == 0) return;
  check_pointer(call.x, "x");
  check_optional(call.delta, element_bytes(call.element), "delta");
  check_pointer(call.gain, "gain");
  check_pointer(call.offset, "offset");
  if (call.delta != nullptr) check_pointer(call.sum, "sum");
  check_pointer(call.y, element_bytes(call.element), "y");
  check_pointer(call.mean, "mean");
  check_pointer(call.inverse_deviation, "inverse_deviation");
  GATO_CHECK(call.epsilon >= 0, "epsilon must not be negative, is ", call.epsilon);
  if (call.element == Element::kBFloat16) {
    launch_forward<BFloat16>(call, stream);
  } else {
    launch_forward<float>(call, stream);
  }
}

size_t layer_norm_backward_workspace(int64_t rows, int64_t width) {
  check_shape(rows, width, nullptr, 1);
  return static_cast<size_t>(num_groups(rows, width) * 2 * width) * sizeof(float);
}

void layer_norm_backward(const LayerNormBackward& call, Stream stream) {
  check_element(call.element, "layer_norm_backward");
  check_shape(call.rows, call.width, call.factors, call.rows_per_factor);
  if (call.rows == 0) return;
  check_pointer(call.sum, "sum");
  check_pointer(call.mean, "mean");
  check_pointer(call.inverse_deviation, "inverse_deviation");
  check_pointer(call.gain, "gain");
  check_pointer(call.y_gradient, element_bytes(call.element), "y_gradient");
  check_optional(call.sum_gradient, "sum_gradient");
  check_pointer(call.x_gradient, "x_gradient");
  check_optional(call.delta_gradient, element_bytes(call.element), "delta_gradient");
  check_optional(call.gain_gradient, "gain_gradient");
  check_optional(call.offset_gradient, "offset_gradient");
  const bool sums = call.gain_gradient != nullptr || call.offset_gradient != nullptr;
  if (sums) check_pointer(call.workspace, 16, "workspace");
  auto* partial = sums ? static_cast<float*>(call.workspace) : nullptr;
  if (call.element == Element::kBFloat16) {
    launch_backward<BFloat16>(call, partial, stream);
  } else {
    launch_backward<float>(call, partial, stream);
  }
  if (!sums) return;
  const int64_t groups = num_groups(call.rows, call.width);
  fold_partial_sums({partial, groups, 2 * call.width, call.width, call.gain_gradient, call.offset_gradient}, stream);
}

}  // namespace gato::kernels::cuda
