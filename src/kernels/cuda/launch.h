#pragma once
// launch(): how host code starts a kernel, in place of <<<>>>. Included by device.h.
#include <cstddef>
#include <utility>

#include "gato/core/error.h"     // DeviceError
#include "kernels/cuda/types.h"  // Stream

#if defined(GATO_CUDA_EMULATION)
#include "cuda_emulation/language.h"
#include "cuda_emulation/launch.h"
#else
#include <cuda_runtime.h>
#endif

namespace gato::kernels::cuda {

/// Shape of a launch.
struct Launch {
  const char* name;         ///< Kernel's name for errors and profiles.
  dim3 grid;                ///< Blocks; every extent > 0, y and z <= 65535.
  dim3 block;               ///< Threads per block; 1..1024 in all.
  size_t shared_bytes = 0;  ///< Dynamic shared memory (GATO_DYNAMIC_SHARED). More than 48 KiB is asked for by itself.
  Stream stream = nullptr;
};

#if !defined(GATO_CUDA_EMULATION)

namespace detail {

/// Throws DeviceError saying that `what` failed, unless `status` is success.
inline void check_cuda(cudaError_t status, const char* what) {
  if (status != cudaSuccess) {
    throw DeviceError(cat("CUDA: ", what, ": ", cudaGetErrorString(status), " (", cudaGetErrorName(status), ")"));
  }
}

/// Throws DeviceError naming the kernel and its shape, unless `status` is success.
inline void check_launch(cudaError_t status, const Launch& shape) {
  if (status != cudaSuccess) {
    static_cast<void>(cudaGetLastError());  // a bad launch is not to be reported again by the next check
    throw DeviceError(
        cat("kernel ", shape.name, ": cannot launch grid (", shape.grid.x, ", ", shape.grid.y, ", ", shape.grid.z,
            "), block (", shape.block.x, ", ", shape.block.y, ", ", shape.block.z, ") with ", shape.shared_bytes,
            " bytes of dynamic shared memory: ", cudaGetErrorString(status), " (", cudaGetErrorName(status), ")"));
  }
}

}  // namespace detail

#define GATO_CUDA_CHECK(call) ::gato::kernels::cuda::detail::check_cuda((call), #call)

#endif

/// Starts `kernel` with `arguments` (converted to its parameters) on `shape.stream` and returns without waiting; under
/// emulation it runs to its end first. Allocates nothing and waits for nothing, so a stream in capture records it.
/// Throws DeviceError naming the kernel when the launch is refused (bad shape, too much shared memory, no device).
template <class... Parameters, class... Arguments>
void launch(const Launch& shape, void (*kernel)(Parameters...), Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments), "as many arguments as the kernel has parameters");
#if defined(GATO_CUDA_EMULATION)
  cuda_emulation::launch_kernel(shape.name, shape.grid, shape.block, shape.shared_bytes, kernel,
                                static_cast<Parameters>(std::forward<Arguments>(arguments))...);
#else
  constexpr size_t kSharedWithoutAsking = 32 * 1024;  // static arrays, at most 8 KiB here, share the 48 KiB
  if (shape.shared_bytes > kSharedWithoutAsking) {
    detail::check_launch(
        cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(shape.shared_bytes)),
        shape);
  }
  cudaLaunchConfig_t config{};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = shape.stream;
  detail::check_launch(
      cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(std::forward<Arguments>(arguments))...), shape);
#endif
}

/// Streaming multiprocessors of the current device: what a split over blocks may aim at. Throws DeviceError without a
/// device.
inline int num_multiprocessors() {
#if defined(GATO_CUDA_EMULATION)
  return cuda_emulation::num_multiprocessors();
#else
  int device = 0;
  int count = 0;
  GATO_CUDA_CHECK(cudaGetDevice(&device));
  GATO_CUDA_CHECK(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device));
  return count;
#endif
}

/// The most dynamic shared memory that one block may have on the current device, in bytes (sm_80 163 KiB, sm_90 and
/// sm_100 227 KiB, sm_120 99 KiB). Throws DeviceError without a device.
inline size_t max_shared_bytes() {
#if defined(GATO_CUDA_EMULATION)
  return cuda_emulation::max_shared_bytes();
#else
  int device = 0;
  int bytes = 0;
  GATO_CUDA_CHECK(cudaGetDevice(&device));
  GATO_CUDA_CHECK(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device));
  return static_cast<size_t>(bytes);
#endif
}

}  // namespace gato::kernels::cuda
