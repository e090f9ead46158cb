#include "kernels/cuda/geglu.h"

#include "kernels/cuda/arguments.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/vectors.h"

namespace gato::kernels::cuda {
namespace {

constexpr int kThreads = 128;

/// The standard normal distribution at x: what GELU is made of.
struct NormalParts {
  float cdf, density;
};
__device__ __forceinline__ NormalParts normal_parts(float x) {
  constexpr float kInverseSqrt2 = 0.70710678118654752f;
  constexpr float kInverseSqrt2Pi = 0.39894228040143268f;
  return {0.5f + 0.5f * erff(x * kInverseSqrt2), kInverseSqrt2Pi * expf(-0.5f * x * x)};
}

/// Where a thread's kCount columns are: block b has the columns of row b / blocks_per_row.
struct Place {
  int64_t gate;    ///< In [rows, 2 half].
  int64_t single;  ///< In [rows, half].
  bool inside;
};
template <int kCount>
__device__ __forceinline__ Place place_of(int64_t half, unsigned blocks_per_row) {
  const int64_t row = blockIdx.x / blocks_per_row;
  const int64_t column = (static_cast<int64_t>(blockIdx.x % blocks_per_row) * kThreads + threadIdx.x) * kCount;
  return {row * 2 * half + column, row * half + column, column < half};
}

template <class T, int kCount>
__global__ void __launch_bounds__(kThreads)
    geglu_forward_kernel(const T* x, T* y, int64_t half, unsigned blocks_per_row) {
  const Place place = place_of<kCount>(half, blocks_per_row);
  if (!place.inside) return;
  const Floats<kCount> gate = load_floats<kCount>(x + place.gate);
  Floats<kCount> result = load_floats<kCount>(x + place.gate + half);
#pragma unroll
  for (int k = 0; k < kCount; ++k) result.v[k] *= gate.v[k] * normal_parts(gate.v[k]).cdf;
  store_floats(y + place.single, result);
}

template <class T, int kCount>
__global__ void __launch_bounds__(kThreads)
    geglu_backward_kernel(const T* x, const T* y_gradient, T* x_gradient, int64_t half, unsigned blocks_per_row) {
  const Place place = place_of<kCount>(half, blocks_per_row);
  if (!place.inside) return;
  Floats<kCount> gate = load_floats<kCount>(x + place.gate);
  Floats<kCount> value = load_floats<kCount>(x + place.gate + half);
  const Floats<kCount> dy = load_floats<kCount>(y_gradient + place.single);
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
    const float g = gate.v[k];
    const NormalParts parts = normal_parts(g);
    gate.v[k] = dy.v[k] * value.v[k] * (parts.cdf + g * parts.density);
    value.v[k] = dy.v[k] * g * parts.cdf;
  }
  store_floats(x_gradient + place.gate, gate);
  store_floats(x_gradient + place.gate + half, value);
}

/// Blocks per row, and the grid of all rows.
struct Shape {
  unsigned blocks_per_row, blocks;
};
Shape shape_of(int64_t rows, int64_t half, int count) {
  const int64_t per_row = ceil_div(half, int64_t{kThreads} * count);
  return {static_cast<unsigned>(per_row), num_blocks(rows * per_row, 1)};
}

template <class T>
void launch_forward(const GegluForward& call, Stream stream) {
  constexpr int kCount = kFullVector<T>;
  const bool vectors = call.half % kCount == 0 && all_aligned(16, call.x, call.y);
  const Shape shape = shape_of(call.rows, call.half, vectors ? kCount : 1);
  launch({"geglu_forward", shape.blocks, kThreads, 0, stream},
         vectors ? geglu_forward_kernel<T, kCount> : geglu_forward_kernel<T, 1>, static_cast<const T*>(call.x),
         static_cast<T*>(call.y), call.half, shape.blocks_per_row);
}

template <class T>
void launch_backward(const GegluBackward& call, Stream stream) {
  constexpr int kCount = kFullVector<T>;
  const bool vectors = call.half % kCount == 0 && all_aligned(16, call.x, call.y_gradient, call.x_gradient);
  const Shape shape = shape_of(call.rows, call.half, vectors ? kCount : 1);
  launch({"geglu_backward", shape.blocks, kThreads, 0, stream},
         vectors ? geglu_backward_kernel<T, kCount> : geglu_backward_kernel<T, 1>, static_cast<const T*>(call.x),
         static_cast<const T*>(call.y_gradient), static_cast<T*>(call.x_gradient), call.half, shape.blocks_per_row);
}

void check_shape(int64_t rows, int64_t half) {
  check_range(rows, 0, int64_t{1} << 40, "rows");
  check_range(half, 0, int64_t{1} << 30, "half");
}

}  // namespace

void geglu_forward(const GegluForward& call, Stream stream) {
  check_element(call.element, "geglu_forward");
  check_shape(call.rows, call.half);
  if (call.rows == 0 || call.half == 0) return;
  check_pointer(call.x, element_bytes(call.element), "x");
  check_pointer(call.y, element_bytes(call.element), "y");
  if (call.element == Element::kBFloat16) {
    launch_forward<BFloat16>(call, stream);
  } else {
    launch_forward<float>(call, stream);
  }
}

void geglu_backward(const GegluBackward& call, Stream stream) {
  check_element(call.element, "geglu_backward");
  check_shape(call.rows, call.half);
  if (call.rows == 0 || call.half == 0) return;
  check_pointer(call.x, element_bytes(call.element), "x");
  check_pointer(call.y_gradient, element_bytes(call.element), "y_gradient");
  check_pointer(call.x_gradient, element_bytes(call.element), "x_gradient");
  if (call.element == Element::kBFloat16) {
    launch_backward<BFloat16>(call, stream);
  } else {
    launch_backward<float>(call, stream);
  }
}

}  // namespace gato::kernels::cuda
