#pragma once
#include "env/mujoco/mujoco_environment.h"

/// The tasks of the suite that are played here, as published: bodies, starts, observations, rewards, 1000 steps.
/// `spec.id` holds the name alone; tasks.cpp puts the domain before it.
namespace gato::env::mujoco {

[[nodiscard]] MujocoTask acrobot_swingup();
[[nodiscard]] MujocoTask ball_in_cup_catch();
[[nodiscard]] MujocoTask cartpole_swingup();
[[nodiscard]] MujocoTask cheetah_run();
[[nodiscard]] MujocoTask finger_spin();
[[nodiscard]] MujocoTask hopper_hop();
[[nodiscard]] MujocoTask hopper_stand();
[[nodiscard]] MujocoTask walker_stand();
[[nodiscard]] MujocoTask walker_walk();

}  // namespace gato::env::mujoco
