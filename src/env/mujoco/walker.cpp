#include <mujoco/mujoco.h>

#include <algorithm>

#include "env/control/control_environment.h"
#include "env/mujoco/helpers.h"
#include "env/mujoco/tasks.h"
#include "env/mujoco/tolerance.h"

namespace gato::env::mujoco {
namespace {

constexpr double kStandHeight = 1.2;  // m, of the torso
constexpr double kWalkSpeed = 1;      // m/s

/// Forward and upward part of each body's own x axis, the torso's height, velocities.
StepValues observe(const Sim& sim) {
  FieldValue orientations;
  for (int body = 1; body < sim.model.nbody; ++body) {
    orientations.continuous.push_back(static_cast<float>(sim.data.xmat[9 * body]));
    orientations.continuous.push_back(static_cast<float>(sim.data.xmat[9 * body + 2]));
  }
  return {std::move(orientations), control::numbers({body_position(sim, "torso")[2]}), velocities(sim)};
}

double stand_reward(const Sim& sim) {
  const double standing = near(body_position(sim, "torso")[2], kStandHeight, kUnbounded, kStandHeight / 2);
  const double upright = (1 + body_orientation(sim, "torso")[8]) / 2;
  return (3 * standing + upright) / 4;
}

double walk_reward(const Sim& sim) {
  const double moving = near_linear(sensor(sim, "velocity")[0], kWalkSpeed, kUnbounded, kWalkSpeed / 2, 0.5);
  return stand_reward(sim) * (5 * moving + 1) / 6;
}

MujocoTask walker() {
  MujocoTask task;
  task.spec.observation = {
      seen("orientations", 14, "forward and upward part of the x axes of torso, thighs, legs, feet"),
      seen("height", 1, "m"), seen("velocity", 9, "m/s, m/s, rad/s")};
  task.spec.action = {control::driven("torque", 6, "100, 50 and 20 N m, right and left")};
  task.model_file = "walker.xml";
  task.physics_steps = 10;  // of 2.5 ms
  task.start = randomise_joints;
  task.observe = observe;
  task.planner = {.horizon = 30, .knots = 5, .samples = 16, .replan_every = 3, .noise = 0.8};
  return task;
}

}  // namespace

MujocoTask walker_stand() {
  MujocoTask task = walker();
  task.spec.id = "walker_stand";
  task.spec.description = "Get up on two legs and stand.";
  task.reward = stand_reward;
  return task;
}

MujocoTask walker_walk() {
  MujocoTask task = walker();
  task.spec.id = "walker_walk";
  task.spec.description = "Get up on two legs and walk forwards, at 1 m/s or more.";
  task.reward = walk_reward;
  return task;
}

}  // namespace gato::env::mujoco
