#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "checkpointing.h"
#include "gato/model/model.h"
#include "gato/train/communicator.h"

namespace gato::train {

/// How the flat buffers of a model with `parameters` parameters are cut for an exchange of `size` processes.
/// `bucket_mib` as of CommunicatorOptions.
[[nodiscard]] model::BucketLayout bucket_layout(int64_t parameters, int64_t size, double bucket_mib);
/// The same for one of the processes of a run, with masters divided where the optimizer is.
[[nodiscard]] model::BucketLayout bucket_layout(int64_t parameters, const Communicator& processes,
                                                const TrainingConfig& config);

/// A stretch of the flat buffers that a process updates, and its place in buffers which hold such stretches alone.
struct OwnPart {
  int64_t offset = 0, size = 0;  ///< In the store's buffers.
  int64_t local = 0;             ///< In buffers of own_elements() elements.
};

/// The flat buffers of a model, shared by the processes of a run: adds up the gradients while backward is still at work
/// on earlier layers, and with `sharded` gives every process its own part of each bucket to update and brings the
/// updated parts together while the next forward is at work already (ZeRO-1: Rajbhandari et al. 2020, "ZeRO: Memory
/// Optimizations Toward Training Trillion Parameter Models", section 5.1). Where the store's masters are divided the
/// parts come together in bf16, half the bytes, but for what operations read in fp32. The store's layout must be
/// bucket_layout's. Alone, nothing happens. One thread calls at a time.
class SharedParameters : public model::PassListener {
 public:
  SharedParameters(std::shared_ptr<Communicator> communicator, model::ParameterStore& store, bool sharded);

  [[nodiscard]] Communicator& communicator() const { return *communicator_; }
  [[nodiscard]] bool sharded() const { return sharded_; }
  /// What this process updates: everything in one part unless sharded.
  [[nodiscard]] const std::vector<OwnPart>& parts() const { return parts_; }
  [[nodiscard]] int64_t own_elements() const;  ///< Sum of the parts' sizes.
  /// The parameters of a part, fp32: what the optimizer updates.
  [[nodiscard]] at::Tensor masters_of(const OwnPart& part) const;
  /// What must be the same at all processes to the bit, after finish_values().
  [[nodiscard]] std::vector<at::Tensor> replicas() const;
  /// All fp32 parameters into `whole`, fp32 [elements with padding] on any device, at the processes where it is
  /// defined. With divided masters an exchange that all processes take part in. After finish_values(). Throws
  /// PeerError.
  void gather_masters(const at::Tensor& whole);
  /// AdamW's moments of the own parts, zeros.
  [[nodiscard]] OptimizerState make_optimizer() const;

  // A step: forward and backward of its micro-batches with this as their listener, or none; last_backward() before the
  // last one's; finish_gradients(); update of the own parts; share_values(). Throw PeerError.
  void last_backward() { is_last_ = true; }
  void after_gradients(int64_t end) override;
  /// Sends all gradients on their way that are not yet. What is exchanged next comes behind them on every process, also
  /// on one whose rows had no label and so no backward.
  void start_gradients();
  /// On return the gradients of the own parts are those of all processes.
  void finish_gradients();
  /// Host and observer wait for the sums of finish_gradients(), which on a GPU are only on their way there.
  void settle_gradients() { last_gradients_.finish(); }
  /// Sends the own parts' values on their way to the others: nobody may read values before before_values() or
  /// finish_values().
  void share_values();
  void before_values(int64_t first) override;  ///< Waits for elements [first, end).
  /// The same for all of them, and the host waits as well: from here on it may read them.
  void finish_values();

 private:
  struct Exchange {
    model::Bucket bucket;
    OwnPart own;  // of this bucket, when sharded
    Communicator::Work work;
  };
  void start(Exchange& exchange);
  [[nodiscard]] bool is_shared_in_bf16(const model::Bucket& bucket) const;
  [[nodiscard]] at::Tensor values_of(const model::Bucket& bucket) const;
  void round_for_compute(const model::Bucket& bucket);

  std::shared_ptr<Communicator> communicator_;
  model::ParameterStore& store_;
  bool sharded_;
  std::vector<Exchange> exchanges_;  // in the order of the buffers
  std::vector<OwnPart> parts_;
  Communicator::Work last_gradients_;  // behind all others of the last step
  bool is_last_ = false;               // nothing will be added to gradients that are whole now
  size_t started_ = 0;                 // exchanges whose gradients are on their way
  size_t values_there_ = 0;            // exchanges [values_there_, end) have their values
};

}  // namespace gato::train
