#pragma once
#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gato/core/launch.h"
#include "gato/train/config.h"

/// Exchange between the processes of a run (docs/distributed.md).
namespace gato::train {

/// Told when the calling thread begins and ends to wait for other processes, by the name of the operation. `ended` is
/// called after a failure too. Called from the threads that call the communicator.
class OperationObserver {
 public:
  virtual ~OperationObserver() = default;
  virtual void began(std::string_view operation) = 0;
  virtual void ended(std::string_view operation) = 0;
  /// The first operation that failed, on the thread that waited for it, after `ended` and before PeerError is thrown.
  virtual void failed(std::string_view operation, std::string_view cause) = 0;
};

class StopNotice;

/// All processes of a run: Gloo between CPUs, NCCL between GPUs (whose control plane is Gloo as well). With one process
/// nothing is exchanged and no operation does anything but what its result says.
///
/// Every process must call the same operations in the same order with tensors of the same type and size; `name` names
/// an operation in messages. Operations may be called from any thread, one at a time. Tensors are dense, on the
/// communicator's device, and must not be touched before Work::wait(). Each operation throws PeerError when another
/// process died, stopped or cannot be reached within timeout_seconds; after the first PeerError every operation throws
/// at once.
class Communicator {
 public:
  /// An operation on its way.
  class Work {
   public:
    Work();
    Work(Work&&) noexcept;
    Work& operator=(Work&&) noexcept;
    ~Work();
    /// On return the result is there: on a GPU for everything that is put on the current stream from now on. Throws
    /// PeerError. Does nothing the second time.
    void wait();
    /// wait(), and then until the device has done it, which a stream that waits does not tell the host: work that the
    /// device got before it comes first, unobserved; then this operation may take the timeout, with the observer told.
    /// Throws PeerError. Whoever reads from a GPU what depends on other processes calls it before: a lost one would
    /// block that read for ever.
    void finish();
    [[nodiscard]] bool done() const;  ///< Whether finish() would return at once.

   private:
    friend class Communicator;
    struct State;
    void wait_for_device(State& state);
    std::unique_ptr<State> state_;
  };

  /// One process for itself.
  Communicator();
  /// Meets the other processes at launch.master_address:master_port. launch.size == 1 touches no network. Throws
  /// PeerError naming the ranks that did not come within connect_seconds, ConfigError for an interface or address that
  /// does not exist, DeviceError where `device` is a GPU and this build has no NCCL.
  /// `notice` is opened as soon as it can be.
  [[nodiscard]] static std::shared_ptr<Communicator> connect(const Launch& launch, at::Device device,
                                                             const CommunicatorOptions& options = {},
                                                             StopNotice* notice = nullptr);
  ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  [[nodiscard]] int64_t rank() const;
  [[nodiscard]] int64_t size() const;
  [[nodiscard]] bool alone() const { return size() == 1; }
  [[nodiscard]] std::string backend() const;  ///< "gloo", "nccl", or "none" when alone.

  // Data. Sums are in the tensors' own type.
  [[nodiscard]] Work all_reduce(const at::Tensor& x, std::string_view name);  ///< x becomes the sum over all ranks.
  /// `out` [n] becomes part `rank` of the sum over all ranks of `in` [size x n]; may be a view of `in`'s own part.
  [[nodiscard]] Work reduce_scatter(const at::Tensor& out, const at::Tensor& in, std::string_view name);
  /// `out` [size x n] becomes every rank's `in` [n] in order; `in` may be a view of its own part of `out`.
  [[nodiscard]] Work all_gather(const at::Tensor& out, const at::Tensor& in, std::string_view name);
  [[nodiscard]] Work broadcast(const at::Tensor& x, int64_t root, std::string_view name);

  // Control. These wait.
  /// Every rank's text, by rank, at every rank. At most 1 GiB in all.
  [[nodiscard]] std::vector<std::string> gather(const std::string& text, std::string_view name);
  /// Waits for all ranks; for `patience_seconds` where that is more than the usual timeout (a rank may be at work).
  void barrier(std::string_view name, double patience_seconds = 0);

  /// Who is told of waiting; null: nobody. Set while no operation is on its way.
  void set_observer(std::shared_ptr<OperationObserver> observer);
  /// Seconds that callers have waited in operations so far.
  [[nodiscard]] double seconds_waited() const;

 private:
  friend struct CommunicatorParts;
  struct State;
  explicit Communicator(std::shared_ptr<State> state);
  template <class Start>
  [[nodiscard]] Work start(std::string_view name, std::vector<at::Tensor> tensors, const Start& begin);
  std::shared_ptr<State> state_;
};

}  // namespace gato::train
