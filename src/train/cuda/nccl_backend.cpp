// The one file that needs NCCL: libgato_nccl.so, loaded by a run of several processes on GPUs.
#include <c10/cuda/CUDAGuard.h>

#define USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include <cstdlib>

#include "train/exchange_backend.h"

extern "C" __attribute__((visibility("default"))) void gato_make_nccl_backend(const gato::train::StorePointer& store,
                                                                              int rank, int size,
                                                                              c10::DeviceIndex device,
                                                                              int64_t timeout_ms,
                                                                              gato::train::BackendPointer& backend) {
  // The group's own watchdog would end the process by an exception on its thread, without a word on who is lost. We
  // look after every operation ourselves (Communicator::Work::finish), and name the culprit. What the user set stays.
  setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0", /*overwrite=*/0);
  const c10::cuda::CUDAGuard guard(device);  // before anything of NCCL, which takes the current device for the rank's
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = std::chrono::milliseconds(timeout_ms);
  auto group = c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size, options);
  group->setBoundDeviceId(at::Device(at::kCUDA, device));
  backend = std::move(group);
}
