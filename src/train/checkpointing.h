#pragma once
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "gato/checkpoint/checkpoint.h"
#include "gato/data/open.h"
#include "gato/model/model.h"
#include "gato/train/config.h"

/// What the trainer puts into a checkpoint and takes out again (docs/formats/checkpoint.md).
namespace gato::train {

/// The optimizer's flat buffers, laid out like the parameters.
struct OptimizerState {
  at::Tensor first_moment, second_moment;
};

/// Where a run is. Everything else follows from the configuration and these numbers.
struct TrainingState {
  int64_t step = 0;                     ///< Updates done (refused ones count).
  int64_t next_row = 0;                 ///< First row of the next step.
  int64_t tokens = 0;                   ///< Seen, without padding.
  int64_t refused = 0;                  ///< Steps refused because something was not finite.
  int64_t updates = 0;                  ///< Steps that changed the parameters: AdamW's bias correction counts these.
  double seconds = 0;                   ///< Training time over all attempts.
  int64_t rollbacks = 0;                ///< Times that the parameters were taken back to a checkpoint.
  std::vector<int64_t> recent_refused;  ///< Refused steps among the last 1000, rising.
  bool operator==(const TrainingState&) const = default;
};
[[nodiscard]] std::string to_json(const TrainingState& state);
[[nodiscard]] TrainingState parse_training_state(const std::string& text, const std::string& origin);

/// Files that are the same in every checkpoint of a run.
struct StaticFiles {
  std::map<std::string, std::string> files;  ///< name -> content.
};

/// The shard files behind some sources, each once.
[[nodiscard]] std::vector<Path> shards_of(const std::vector<std::shared_ptr<const data::Source>>& sources);

/// Demonstrations of every task, held-out documents and unigram counts of text tasks, the statistics of all values, and
/// the text tokenizer. `scratch`: a folder for the while.
[[nodiscard]] StaticFiles make_static_files(const TrainingConfig& config, const data::OpenedData& data,
                                            const Path& scratch);

checkpoint::CheckpointInfo save_checkpoint(const Path& folder, const TrainingState& state,
                                           const std::string& config_yaml, const model::Model& model,
                                           const OptimizerState& optimizer, const StaticFiles& static_files,
                                           int64_t attempt);

/// Fills model, optimizer and state. Throws CheckpointError when the checkpoint does not fit them.
TrainingState load_checkpoint(const Path& path, model::Model& model, const OptimizerState& optimizer);

}  // namespace gato::train
