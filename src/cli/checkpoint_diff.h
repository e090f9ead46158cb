#pragma once
#include <string>
#include <vector>

#include "gato/core/file.h"  // Path

namespace gato::cli {

/// How one tensor differs.
struct TensorDifference {
  std::string name;
  double max_abs = 0;   ///< Largest |a - b|; infinite where only one of them is finite.
  double norm = 0;      ///< Of a - b.
  double relative = 0;  ///< norm / norm of a; 0 where both are 0.
};

struct CheckpointDifference {
  std::vector<std::string> settings;      ///< "model.layers: 4 -> 6", by path.
  std::vector<std::string> state;         ///< "step: 10 -> 20", of training_state.json.
  std::vector<std::string> structure;     ///< Tensors of one alone, of other shapes or types.
  std::vector<TensorDifference> tensors;  ///< Those that differ in values, by falling relative difference.
  size_t equal = 0;                       ///< Tensors with the same bits.
  [[nodiscard]] bool none() const;        ///< Whether nothing differs.
};

/// Compares two checkpoints, exports, or safetensors files; `with_moments` also the optimizer's. What one of them lacks
/// altogether (an export has no training state) is not compared. Throws CheckpointError for what cannot be read.
[[nodiscard]] CheckpointDifference compare(const Path& a, const Path& b, bool with_moments = false);

/// For people; at most `most` tensors are listed.
[[nodiscard]] std::string to_text(const CheckpointDifference& difference, size_t most = 20);

}  // namespace gato::cli
