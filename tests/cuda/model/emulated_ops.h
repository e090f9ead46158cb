#pragma once
#include <c10/core/CPUAllocator.h>

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "cuda_emulation/test_device.h"
#include "kernels/cuda/tensor_ops.h"

namespace gato::kernels::testing {

/// Calls the work again: an input that is not where the work looks for it, or a result that was not copied in time,
/// shows as it would with a graph.
class EmulatedCapture final : public CapturedWork {
 public:
  explicit EmulatedCapture(std::function<void()> work) : work_(std::move(work)) {}
  void replay() override { work_(); }

 private:
  std::function<void()> work_;
};

/// The CUDA half's operations, their kernels run by the emulator.
class EmulatedOps : public cuda::TensorOps {
 public:
  [[nodiscard]] int num_devices() const override { return 1; }
  [[nodiscard]] GpuProperties properties(int) const override { return {"emulated", int64_t{1} << 30, 90, 108}; }
  [[nodiscard]] std::string identity() const override { return "emulated"; }
  [[nodiscard]] std::unique_ptr<CapturedWork> capture(at::Device, std::function<void()> work,
                                                      const CapturedWork*) const override {
    work();
    return std::make_unique<EmulatedCapture>(std::move(work));
  }
};

/// Gives tensors of the CPU memory of the emulated device, so that kernels that leave a tensor are reported. What the
/// CPU writes into them the emulator does not see: they count as written, and hold NaN at first.
class DeviceMemory final : public c10::Allocator {
 public:
  explicit DeviceMemory(cuda_emulation::Device& device) : device_(device), before_(c10::GetCPUAllocator()) {
    instance() = this;
    c10::SetCPUAllocator(this, kPriority);
  }
  ~DeviceMemory() override {
    c10::SetCPUAllocator(before_, kPriority);
    instance() = nullptr;
  }

  c10::DataPtr allocate(size_t bytes) override {
    const std::lock_guard lock(mutex_);
    auto buffer = device_.buffer<uint8_t>("tensor of " + std::to_string(bytes) + " bytes", bytes == 0 ? 1 : bytes);
    buffer.fill(0xff);
    void* data = buffer.data();
    buffers_.emplace(data, std::move(buffer));
    return {data, data, &release, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }

 private:
  static constexpr uint8_t kPriority = 200;
  static DeviceMemory*& instance() {
    static DeviceMemory* memory = nullptr;
    return memory;
  }
  static void release(void* data) {
    DeviceMemory* memory = instance();
    if (memory == nullptr) return;  // a tensor that outlived the device, whose memory is gone with it
    const std::lock_guard lock(memory->mutex_);
    memory->buffers_.erase(data);
  }

  cuda_emulation::Device& device_;
  c10::Allocator* before_;
  std::mutex mutex_;
  std::map<void*, cuda_emulation::Buffer<uint8_t>> buffers_;
};

/// While it lives, tensors of the CPU go through emulated kernels, which must commit no fault. Tensors made meanwhile
/// must not outlive it.
class EmulatedGpu {
 public:
  EmulatedGpu() : memory_(device_), on_(at::kCPU, ops_) {}
  cuda_emulation::TestDevice& device() { return device_; }

 private:
  cuda_emulation::TestDevice device_{cuda_emulation::Options{.counters = false, .host_threads = 2}};
  DeviceMemory memory_;
  EmulatedOps ops_;
  ScopedDeviceOps on_;
};

}  // namespace gato::kernels::testing
