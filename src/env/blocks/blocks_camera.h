#pragma once
#include "env/blocks/blocks_world.h"
#include "gato/episode/image.h"

namespace gato::env::blocks {

inline constexpr int kViewSide = 64;  ///< Pixels of what the agent sees.

/// What a camera sees: kFront stands before the table and looks at it from above, the arm behind; kWrist hangs at the
/// hand, turns with it, and looks past the fingers at the table.
enum class Camera { kFront, kWrist };

/// A picture of `side` x `side` pixels. Rays meet boxes, lit from one side; the same world gives the same picture.
[[nodiscard]] episode::Image draw_view(const World& world, Camera camera, int side = kViewSide);

}  // namespace gato::env::blocks
