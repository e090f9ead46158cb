#pragma once
#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>

namespace gato::kernels {

/// Work on a GPU that was recorded as a CUDA graph and is put on the device again as a whole, without the CPU's part of
/// it. It reads and writes the same memory every time: whoever replays fills the inputs first (on the same stream) and
/// copies what it wants to keep of the results afterwards.
class CapturedWork {
 public:
  CapturedWork() = default;
  virtual ~CapturedWork() = default;  ///< Waits for replays that are still running.
  CapturedWork(const CapturedWork&) = delete;
  CapturedWork& operator=(const CapturedWork&) = delete;

  /// Puts the work on the device's current stream. Throws DeviceError when that is refused.
  virtual void replay() = 0;
};

/// Whether work on `device` can be captured.
[[nodiscard]] bool can_capture(at::Device device);

/// Runs `work` once, as a call would, then records what it puts on `device` without running it: after capture() it has
/// had effect once. `work`, which is kept as long as the result, must put the same on the device whenever it is called:
/// fixed shapes, tensors that it holds, no waiting for the device, no random numbers. Memory that it takes and lets go
/// of is the graph's own from then on; with `beside`, another capture on this device, it is shared with that one, and
/// the two must never run at the same time.
///
/// Exceptions of the first call pass through. Throws DeviceError, with LibTorch's reason, when the second cannot be
/// recorded; then `work` has had its effect, and the device goes on.
[[nodiscard]] std::unique_ptr<CapturedWork> capture(at::Device device, std::function<void()> work,
                                                    const CapturedWork* beside = nullptr);

}  // namespace gato::kernels
