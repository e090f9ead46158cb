#pragma once
#include <cstdint>

#include "env/grid/grid_world.h"

namespace gato::env::grid {

/// The action a searcher takes next: the first of a shortest way to face what it needs (the goal; the key, then the
/// door; the object, then a free cell beside the other) once that has been in view, and before that the first of a
/// shortest way to bring an unseen cell into view; or the action on what it faces. Puts down what it carries by
/// mistake. Uses what was seen, and the room's size.
[[nodiscard]] int32_t expert_action(const World& world);

}  // namespace gato::env::grid
