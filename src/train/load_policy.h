#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "checkpointing.h"

/// Which checkpoint a run goes on from, and what a new run begins with.
namespace gato::train {

/// Gives every process the texts of all, by rank.
using GatherTexts = std::function<std::vector<std::string>(const std::string&)>;

/// The newest checkpoint that every process sees whole: rank 0 reads all of it and sets damaged ones aside (it holds
/// the run's lock), the others look at its manifest and sizes, and the lowest step that anybody has counts. Nothing
/// when no checkpoint was ever saved. CheckpointError when there are some and none can be used: a run must not silently
/// begin anew. Called by all processes; `gather` may be empty for a process by itself.
[[nodiscard]] std::optional<checkpoint::CheckpointInfo> choose_checkpoint(const Path& folder, SaveRank place,
                                                                          const GatherTexts& gather = {});

/// What of the parameters a new run takes from elsewhere.
struct InitialWeights {
  Path from;  ///< As find_initial_weights gives it: a checkpoint, an export, or a safetensors file.
  std::vector<std::string> include = {"*"}, exclude = {};  ///< Patterns of parameter names.
  bool strict = true;
};

/// What `train.init_from` names: of a run folder its newest valid checkpoint, otherwise itself. ConfigError for a run
/// without one.
[[nodiscard]] Path find_initial_weights(const Path& from);

/// Fills the parameters of `model` whose names match from elsewhere, converting BF16, F16 and F64. Those that are
/// missing there, have another shape or no match in the model are listed: in a CheckpointError if strict (and nothing
/// is changed), otherwise in a warning. Returns what was taken, for the log. ConfigError when the patterns match no
/// parameter.
std::string load_initial_weights(const InitialWeights& weights, model::Model& model);

}  // namespace gato::train
