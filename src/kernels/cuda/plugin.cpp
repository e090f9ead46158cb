// What libgato_cuda.so shows to the programs that load it.
#include <ATen/core/CachingHostAllocator.h>
#include <ATen/cuda/CUDAContext.h>
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <nvtx3/nvToolsExt.h>

#include <map>
#include <mutex>

#include "gato/core/error.h"
#include "gato/core/text.h"
#include "kernels/cuda/tensor_ops.h"

namespace gato::kernels::cuda {
namespace {

// Ranges of NVTX, in a domain of our own so that tools can tell them from LibTorch's.

/// Null while no tool is attached (Nsight Systems, Nsight Compute): NVTX is not there then.
nvtxDomainHandle_t range_domain() {
  static const nvtxDomainHandle_t domain = nvtxDomainCreateA("gato");
  return domain;
}

void enter_range(const char* name) {
  nvtxEventAttributes_t attributes{};
  attributes.version = NVTX_VERSION;
  attributes.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
  attributes.messageType = NVTX_MESSAGE_TYPE_ASCII;
  attributes.message.ascii = name;
  nvtxDomainRangePushEx(range_domain(), &attributes);
}

void leave_range() { nvtxDomainRangePop(range_domain()); }

/// The stream on which graphs of `device` are recorded: one, since cuBLAS keeps a workspace for every stream it has
/// seen.
c10::cuda::CUDAStream recording_stream(at::Device device) {
  static std::mutex mutex;
  static std::map<at::DeviceIndex, c10::cuda::CUDAStream> streams;
  const std::lock_guard lock(mutex);
  const auto found = streams.find(device.index());
  if (found != streams.end()) return found->second;
  return streams.emplace(device.index(), c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device.index()))
      .first->second;
}

/// Work recorded as a CUDA graph.
class Graph final : public CapturedWork {
 public:
  Graph(at::Device device, std::function<void()> work, const Graph* beside)
      : device_(device),
        work_(std::move(work)),
        pool_(beside == nullptr ? at::cuda::graph_pool_handle() : beside->pool_) {
    const c10::cuda::CUDAGuard on(device_);
    const c10::cuda::CUDAStream outer = c10::cuda::getCurrentCUDAStream();
    // Not the default stream, which cannot be captured. The first call there makes what libraries make only once for a
    // stream (cuBLAS's handles and workspaces) and could not make while the second is recorded.
    const c10::cuda::CUDAStream side = recording_stream(device_);
    follow(outer, side);
    {
      const c10::cuda::CUDAStreamGuard guard(side);
      work_();
      side.synchronize();
      // The graph gets memory of its own: what the first call leaves behind would be held twice.
      c10::cuda::CUDACachingAllocator::emptyCache();
      record();
    }
    follow(side, outer);
  }

  ~Graph() override {
    try {
      const c10::cuda::CUDAGuard on(device_);
      c10::cuda::device_synchronize();
    } catch (const std::exception&) {  // a device that failed runs nothing any more
    }
  }

  void replay() override {
    const c10::cuda::CUDAGuard on(device_);
    graph_.replay();
  }

 private:
  /// What is put on `later` from now on waits for what is on `earlier`.
  static void follow(const c10::cuda::CUDAStream& earlier, const c10::cuda::CUDAStream& later) {
    at::cuda::CUDAEvent event;
    event.record(earlier);
    event.block(later);
  }

  void record() {
    graph_.capture_begin(pool_);
    try {
      work_();
      graph_.capture_end();
    } catch (const c10::OutOfMemoryError&) {
      abandon_recording();
      throw;
    } catch (const std::exception& error) {
      abandon_recording();
      throw DeviceError(
          cat("work on ", device_.str(), " cannot be captured in a CUDA graph: ", split(error.what(), '\n').front()));
    }
  }

  /// Ends a capture that has failed and gives its memory back, so that the device goes on. What goes wrong on the way
  /// follows from the failure that is known already.
  void abandon_recording() noexcept {
    const auto attempt = [](const auto& action) {
      try {
        action();
      } catch (const std::exception&) {
        (void)cudaGetLastError();
      }
    };
    attempt([&] { graph_.capture_end(); });
    bool ended = false;  // a capture that was still valid: its graph gives the pool back itself
    attempt([&] {
      (void)graph_.pool();  // throws unless capture_end() came to its end
      ended = true;
    });
    if (ended) return;
    // Of a capture that was invalidated both allocators keep the filter that sends memory to the pool.
    attempt([&] { at::getHostAllocator(at::kCUDA)->end_allocate_to_pool(pool_); });
    attempt([&] { at::getHostAllocator(at::kCUDA)->release_pool(pool_); });
    attempt([&] { c10::cuda::CUDACachingAllocator::endAllocateToPool(device_.index(), pool_); });
    attempt([&] { c10::cuda::CUDACachingAllocator::releasePool(device_.index(), pool_); });
  }

  at::Device device_;
  std::function<void()> work_;  // holds the tensors that the graph reads and writes
  at::cuda::MempoolId_t pool_;
  at::cuda::CUDAGraph graph_;
};

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

  [[nodiscard]] std::unique_ptr<CapturedWork> capture(at::Device device, std::function<void()> work,
                                                      const CapturedWork* beside) const override {
    return std::make_unique<Graph>(device, std::move(work), static_cast<const Graph*>(beside));
  }

  [[nodiscard]] profile::RangeHooks range_hooks() const override {
    return range_domain() == nullptr ? profile::RangeHooks{} : profile::RangeHooks{&enter_range, &leave_range};
  }
};

}  // namespace
}  // namespace gato::kernels::cuda

extern "C" const gato::kernels::DeviceOps* gato_cuda_device_ops() {
  static const gato::kernels::cuda::CudaOps ops;
  return &ops;
}

extern "C" const char* gato_cuda_device_interface() { return GATO_DEVICE_INTERFACE; }
