#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "gato/kernels/capture.h"
#include "gato/train/config.h"
#include "micro_step.h"

namespace gato::train {

/// kernels::capture, whose DeviceError says here which setting does without.
[[nodiscard]] std::unique_ptr<kernels::CapturedWork> capture_for_training(
    at::Device device, std::function<void()> work, const kernels::CapturedWork* beside = nullptr);

/// micro_step() with everything between the embedding and its gradient in CUDA graphs: blocks, head and loss, forward
/// and backward. The embedding, whose number of patches varies, is called as always.
///
/// A graph has fixed sizes: one is recorded for every number of loss positions (and of sequences, where attention takes
/// their boundaries), which pad_sizes() keeps few. All of them share their scratch memory.
class CapturedStep {
 public:
  static constexpr size_t kMostGraphs = 8;  ///< Beyond that the one that was not used for longest goes.

  /// Throws ConfigError, naming the setting, where it cannot be: why_no_cuda_graph(), or the model is on no GPU.
  CapturedStep(const TrainingConfig& config, const model::Model& model);

  /// What micro_step() returns and does, for tensors of pad_sizes(), but for rounding. Throws ConfigError when
  /// attention goes by a route that cannot be captured, DeviceError when recording fails.
  [[nodiscard]] MicroResult run(const BatchTensors& tensors, const model::ForwardOptions& options);

  [[nodiscard]] size_t num_graphs() const { return graphs_.size(); }

 private:
  struct Memory;
  struct Graph {
    std::shared_ptr<Memory> memory;
    std::unique_ptr<kernels::CapturedWork> work;
  };
  [[nodiscard]] model::BlockInput block_input(const BatchTensors& tensors, const model::ForwardOptions& options) const;
  void record(std::shared_ptr<Memory> memory, const model::ForwardOptions& options);

  const TrainingConfig& config_;
  const model::Model& model_;
  std::vector<Graph> graphs_;  // the one used last is last
};

}  // namespace gato::train
