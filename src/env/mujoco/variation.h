#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "env/control/physics.h"

/// Physics drawn per episode, as in Gato's control suite with randomised physics.
namespace gato::env::mujoco {

/// How far a quantity is drawn from its value in the model. Motor gears, joint stiffness and damping, and densities (or
/// masses) are multiplied by factors of an interval of their own, sizes of bodies and ranges of joints by such of half
/// its width; each motor, joint and body part has a factor of its own.
enum class Variation : uint8_t {
  kNone,
  kSmall,  ///< Factors in [0.95, 1.05].
  kLarge,  ///< Factors in [0.8, 1.2].
};

[[nodiscard]] const char* variation_name(Variation variation);  ///< "none", "small", "large".

/// The model of data/models/FILE with its physics drawn by `seed`: the same seed always gives the same model.
/// Kinematics and numbers of coordinates are those of the file. Thread-safe. ConfigError as shared_model.
[[nodiscard]] std::shared_ptr<const mjModel> varied_model(const std::string& file, Variation variation, uint64_t seed);

}  // namespace gato::env::mujoco
