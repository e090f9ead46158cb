#pragma once
#include "env/control/control_environment.h"

namespace gato::env::control {

[[nodiscard]] ControlTask cartpole_balance();
[[nodiscard]] ControlTask pendulum_swingup();
[[nodiscard]] ControlTask reacher();
[[nodiscard]] ControlTask point_mass();

}  // namespace gato::env::control
