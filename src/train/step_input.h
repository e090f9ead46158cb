#pragma once
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <optional>
#include <vector>

#include "gato/data/batch.h"
#include "gato/train/batch_tensors.h"
#include "gato/train/config.h"

namespace gato::train {

/// The rows of one step as the model takes them, cut into micro-batches in order.
struct StepInput {
  struct MicroBatch {
    int64_t first_row = 0;  ///< Number of its first row in the run's stream.
    BatchTensors tensors;   ///< On the model's device; on the CPU views of `batch`.
  };
  data::Batch batch;
  std::vector<MicroBatch> micro;
  std::vector<at::Tensor> host;     ///< Pinned copies that may still be read by the device.
  std::optional<c10::Event> ready;  ///< When the copies are done; nothing on the CPU.
};

/// Makes steps' inputs. For a GPU the copies go by pinned memory on a stream of their own, so that those of the next
/// step are made while this one is computed.
class InputPreparer {
 public:
  /// Micro-batches as micro_rows() says; for steps in CUDA graphs of padded sizes (pad_sizes).
  InputPreparer(at::Device device, const TrainingConfig& config, int64_t processes = 1);
  [[nodiscard]] StepInput prepare(data::Batch batch) const;
  /// Makes what is put on the current stream from now on wait for the input's copies.
  void wait_for(const StepInput& input) const;

 private:
  void copy_ahead(StepInput& input) const;

  at::Device device_;
  int64_t micro_rows_;
  bool padded_;
  std::optional<c10::Stream> stream_;
};

}  // namespace gato::train
