#pragma once
// Searches in ascending arrays. For .cu files.
#include "kernels/cuda/device.h"

namespace gato::kernels::cuda {

/// The number of elements of the ascending `values` [count] that are less than `value`.
template <class T>
__device__ __forceinline__ int64_t lower_bound(const T* values, int64_t count, T value) {
  int64_t low = 0;
  int64_t high = count;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (values[middle] < value) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

/// Where `value` is in the ascending `values` [count], or -1.
template <class T>
__device__ __forceinline__ int64_t find_ascending(const T* values, int64_t count, T value) {
  const int64_t at = lower_bound(values, count, value);
  return at < count && values[at] == value ? at : -1;
}

}  // namespace gato::kernels::cuda
