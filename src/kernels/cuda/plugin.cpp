// What libgato_cuda.so shows to the programs that load it.
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAFunctions.h>

#include "kernels/cuda/tensor_ops.h"

namespace gato::kernels::cuda {
namespace {

class CudaOps final : public TensorOps {
 public:
  /// 0 without a driver.
  [[nodiscard]] int num_devices() const override { return c10::cuda::device_count(); }

  [[nodiscard]] GpuProperties properties(int index) const override {
    const cudaDeviceProp& device = *at::cuda::getDeviceProperties(static_cast<c10::DeviceIndex>(index));
    return {device.name, static_cast<int64_t>(device.totalGlobalMem), 10 * device.major + device.minor,
            device.multiProcessorCount};
  }

  [[nodiscard]] std::string identity() const override { return GATO_KERNELS_IDENTITY; }
};

}  // namespace
}  // namespace gato::kernels::cuda

extern "C" const gato::kernels::DeviceOps* gato_cuda_device_ops() {
  static const gato::kernels::cuda::CudaOps ops;
  return &ops;
}
