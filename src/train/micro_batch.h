#pragma once
#include <cstdint>
#include <exception>
#include <string>
#include <vector>

#include "gato/data/batch.h"
#include "gato/model/estimate.h"
#include "gato/model/model.h"
#include "gato/train/config.h"

/// How many rows fit into memory at once, and what to say when too many were tried.
namespace gato::train {

/// Bytes that this process may still take: `share` of what the machine has available (MemAvailable), or of what is left
/// under the control group's limit where that is less; of a GPU, of what is free on it.
[[nodiscard]] int64_t memory_budget(double share = 0.8, at::Device device = at::kCPU);

/// Bytes of memory that forward and backward of `rows` rows took at their peak.
struct MicroBatchMeasurement {
  int64_t rows = 0, bytes = 0;
};

struct MicroBatchChoice {
  int64_t rows = 0;
  std::vector<MicroBatchMeasurement> measured;  ///< In the order of trying.
};

/// The largest divisor of `batch.rows` with which forward and backward stay within `budget` bytes, found by running
/// them on rows of `batch`: on one row and on two, then on what a straight line through these lets expect, fewer while
/// it takes too much. Parameters stay as they are, gradients are zero afterwards. Needs a living
/// kernels::CachingMemory. Throws DeviceError (explain_out_of_memory) when not even one row fits.
[[nodiscard]] MicroBatchChoice choose_micro_batch(model::Model& model, const TrainingConfig& config,
                                                  const data::Batch& batch, int64_t budget);

/// Whether `error` says that memory for a tensor or an object was refused.
[[nodiscard]] bool is_out_of_memory(const std::exception& error);

/// What to tell whoever ran out of memory with step.rows rows at once (0: while the state was made, before any): the
/// part that takes most, what everything takes, and the settings to change. `cause` is the text of the error.
[[nodiscard]] std::string explain_out_of_memory(const TrainingConfig& config, const model::ModelShape& shape,
                                                const model::StepShape& step, const std::string& cause);

}  // namespace gato::train
