#pragma once
#include <array>

#include "env/blocks/blocks_world.h"

namespace gato::env::blocks {

/// What a script does next, from the present state alone: takes away what lies on red or blue, takes red, puts it on
/// blue and lets go. Each action in [-1, 1].
[[nodiscard]] std::array<double, kActions> expert_action(const World& world);

}  // namespace gato::env::blocks
