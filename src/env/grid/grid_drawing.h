#pragma once
#include "env/grid/grid_world.h"
#include "gato/episode/image.h"

namespace gato::env::grid {

/// The whole room from above, 288 x 312 pixels whatever its size: what is in view is lit, what has not been seen yet is
/// dark; the mission stands above.
[[nodiscard]] episode::Image draw_world(const World& world);

}  // namespace gato::env::grid
