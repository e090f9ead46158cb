#pragma once
#include <string>

#include "gato/checkpoint/checkpoint.h"

/// What people may give where a checkpoint, or a run's checkpoints, are meant.
namespace gato::cli {

/// The folder with a run's checkpoints, from itself or the run folder. ConfigError when it is neither.
[[nodiscard]] Path checkpoints_folder(const Path& given);

/// A checkpoint from its folder, from a link to it such as `latest`, or the newest valid one of a run folder or of a
/// folder of checkpoints. ConfigError when there is none.
[[nodiscard]] checkpoint::CheckpointInfo find_checkpoint(const Path& given);

/// The run folder that a checkpoint lies in, as its place tells; empty when it lies elsewhere.
[[nodiscard]] Path run_of(const Path& checkpoint);

/// Throws CheckpointError naming file and offset unless every byte of the checkpoint is as written.
void require_valid(const Path& checkpoint);

}  // namespace gato::cli
