#pragma once
#include <string>
#include <vector>

#include "gato/model/config.h"
#include "gato/model/parameter_store.h"

namespace gato::model {

/// Groups of the patch embedder's GroupNorm.
[[nodiscard]] int64_t patch_groups(const ModelConfig& config);

/// "blocks.3."
[[nodiscard]] std::string block_prefix(int64_t layer);

/// All parameters in the order in which backward finishes them: head (when it is one of its own), final norm, blocks
/// from the last to the first, biases of relative positions, patch embedder, position tables, token table.
[[nodiscard]] std::vector<ParameterStore::Declaration> declare_parameters(const ModelConfig& config,
                                                                          const ModelShape& shape);

/// Fills the store with its initial values. Every parameter depends on (seed, its name) alone.
void initialise_parameters(const ModelConfig& config, const ModelShape& shape, uint64_t seed, ParameterStore& store);

}  // namespace gato::model
