#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

/// Where tensors live and operations run. The CUDA half is a library of its own, libgato_cuda.so, that a program loads
/// when it is asked for a GPU: a machine without one needs neither it nor NVIDIA's libraries.
namespace gato::kernels {

/// The device named `name`: "cpu", "cuda" (the first GPU), "cuda:N", or "auto": the first GPU where there is one, else
/// the CPU. Loads the CUDA half before it returns a GPU, so call it before any tensor is made. Throws ConfigError for
/// another name, and DeviceError where a GPU was named and cannot be had, saying why: the library is not there, or does
/// not load, or no CUDA device was found.
[[nodiscard]] at::Device open_device(const std::string& name);

/// Why there is no GPU, for people; "" when one can be used. Loads the CUDA half.
[[nodiscard]] std::string why_no_gpu();

/// GPUs that can be used, cuda:0 on. Loads the CUDA half.
[[nodiscard]] int num_gpus();

/// Whether tensors on `device` go to the CUDA half's operations and not to the CPU's: those on a GPU, and the CPU's own
/// in tests of emulated kernels.
[[nodiscard]] bool has_device_operations(at::Device device);

/// What is known of a GPU.
struct GpuProperties {
  std::string name;          ///< "NVIDIA H100 80GB HBM3".
  int64_t memory_bytes = 0;  ///< In all.
  int capability = 0;        ///< 10 x major + minor: 90.
  int multiprocessors = 0;   ///< Streaming multiprocessors.
};
/// Throws DeviceError when `device` is no GPU that can be used.
[[nodiscard]] GpuProperties gpu_properties(at::Device device);

/// Waits until everything that was put on the device's current stream is done; nothing to do on the CPU.
void synchronize(at::Device device);

}  // namespace gato::kernels
