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

using model::FlatRange;

/// The optimizer's flat buffers: laid out like the parameters, or, where the optimizer is divided among processes, the
/// elements of `ranges` (rising, without overlap) one after the other.
struct OptimizerState {
  at::Tensor first_moment, second_moment;
  std::vector<FlatRange> ranges = {};  ///< Empty: everything.
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
  int64_t processes = 1;                ///< That saved it; any number may go on.
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

/// Everything of a save but the buffers.
struct SaveRequest {
  TrainingState state;
  std::string config_yaml;
  int64_t attempt = 0;
  std::shared_ptr<const StaticFiles> static_files;  ///< Null: none.
  bool verify = false;                              ///< Read back before it counts: checkpoint::CommitOptions.
  bool hurried = false;  ///< The process is about to be stopped: nothing follows the commit, such as deleting old ones.
};

/// One process's place in a save.
struct SaveRank {
  int64_t rank = 0, size = 1;
};

/// Bytes that a checkpoint's buffers take on disk: those of this process, and at rank 0 those of all of them.
[[nodiscard]] uint64_t saved_bytes(const model::ParameterStore& store, const OptimizerState& optimizer, SaveRank rank);

/// Writes what this process keeps: rank 0 the parameters, small files and, unless the optimizer is divided, both
/// moments; with a divided optimizer every rank its ranges as slices,
/// `optimizer-first_moment-00001-of-00004.safetensors`. `values` and `optimizer` are on the CPU. Throws IoError.
void write_part(checkpoint::CheckpointPart& part, const model::ParameterStore& store, const at::Tensor& values,
                const OptimizerState& optimizer, const SaveRequest& request, SaveRank rank);

/// Says what the manifest says of the whole.
void set_facts(checkpoint::CheckpointWriter& writer, const SaveRequest& request, SaveRank rank);

/// Saves on the calling thread, for a process by itself.
checkpoint::CheckpointInfo save_checkpoint(const Path& folder, const SaveRequest& request, const model::Model& model,
                                           const OptimizerState& optimizer);

/// Fills model, optimizer (its `ranges`, whatever processes wrote them) and state. Throws CheckpointError that lists
/// what does not fit: tensors that are missing, unexpected, of another shape or covered by slices in part or twice.
TrainingState load_checkpoint(const Path& path, model::Model& model, const OptimizerState& optimizer);

}  // namespace gato::train
