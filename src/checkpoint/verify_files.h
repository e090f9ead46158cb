#pragma once
#include <vector>

#include "gato/checkpoint/checkpoint.h"

namespace gato::checkpoint {

/// Everything in which the files below `root` differ from their entries, as verify_checkpoint() tells it.
[[nodiscard]] std::vector<Damage> check_files(const Path& root, const std::vector<FileEntry>& files, VerifyDepth depth);

}  // namespace gato::checkpoint
