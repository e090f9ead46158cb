#pragma once
#include <memory>
#include <optional>

#include "env/control/physics.h"
#include "gato/episode/image.h"

namespace gato::env::control {

/// Side of the pictures of control tasks, in pixels.
constexpr int kFrameSide = 128;

/// A kFrameSide x kFrameSide picture of `data` through the model's first camera, drawn in memory by OSMesa: no display,
/// no GPU. Nothing where no rendering context can be made (said once in the log). Each thread draws in a context of its
/// own; the first picture of a model in a context takes about 0.2 s longer. The same state gives the same picture on
/// every thread.
[[nodiscard]] std::optional<episode::Image> render_frame(const std::shared_ptr<const mjModel>& model, mjData& data);

/// The same of a simulation of `variant`, which differs from `model` in numbers only (sizes, masses): what is kept to
/// draw `model` serves all its variants.
[[nodiscard]] std::optional<episode::Image> render_frame(const std::shared_ptr<const mjModel>& model,
                                                         const mjModel& variant, mjData& data);

}  // namespace gato::env::control
