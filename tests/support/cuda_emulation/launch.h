#pragma once
// Host side of the emulation that kernels/cuda/launch.h calls.
#include <cstddef>
#include <tuple>
#include <utility>

#include "cuda_emulation/language.h"

namespace gato::cuda_emulation {

/// A kernel call with its arguments, run once by every thread.
struct KernelCall {
  const void* closure;
  size_t closure_bytes;
  void (*run)(const void* closure);
};

/// Runs the grid to its end on the current Device; what goes wrong inside is recorded there. Throws DeviceError naming
/// the kernel when a device would refuse the launch, or when no Device exists.
void launch_grid(const char* name, dim3 grid, dim3 block, size_t shared_bytes, const KernelCall& call);

template <class Kernel, class... Arguments>
void launch_kernel(const char* name, dim3 grid, dim3 block, size_t shared_bytes, Kernel kernel,
                   Arguments... arguments) {
  struct Closure {
    Kernel kernel;
    std::tuple<Arguments...> arguments;
  };
  const Closure closure{kernel, std::tuple<Arguments...>(std::move(arguments)...)};
  const KernelCall call{&closure, sizeof closure, [](const void* pointer) {
                          const Closure& c = *static_cast<const Closure*>(pointer);
                          std::apply(c.kernel, c.arguments);
                        }};
  launch_grid(name, grid, block, shared_bytes, call);
}

[[nodiscard]] int num_multiprocessors();
[[nodiscard]] size_t max_shared_bytes();

}  // namespace gato::cuda_emulation
