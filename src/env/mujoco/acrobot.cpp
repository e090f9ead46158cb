#include <mujoco/mujoco.h>

#include <cmath>
#include <numbers>

#include "env/control/control_environment.h"
#include "env/mujoco/helpers.h"
#include "env/mujoco/tasks.h"
#include "env/mujoco/tolerance.h"

namespace gato::env::mujoco {
namespace {

// Coordinates: the upper link's angle from upright, the lower link's angle from the upper link.

void start(const Sim& sim, Rng& rng) {
  for (int i = 0; i < 2; ++i) sim.data.qpos[i] = rng.uniform(-std::numbers::pi, std::numbers::pi);
}

StepValues observe(const Sim& sim) {
  const double* const upper = body_orientation(sim, "upper");
  const double* const lower = body_orientation(sim, "lower");
  return {control::numbers({upper[2], lower[2], upper[8], lower[8]}), velocities(sim)};
}

double to_target(const Sim& sim) {
  const double* const tip = site_position(sim, "tip");
  const double* const target = site_position(sim, "target");
  return std::hypot(tip[0] - target[0], tip[1] - target[1], tip[2] - target[2]);
}

double reward(const Sim& sim) { return near(to_target(sim), 0, 0.2, 1); }

}  // namespace

MujocoTask acrobot_swingup() {
  MujocoTask task;
  task.spec.id = "acrobot_swingup";
  task.spec.description =
      "Two links hang from a hinge; turn the joint between them so that they swing up and the tip stays on the target.";
  task.spec.observation = {seen("orientations", 4, "horizontal parts of both links' directions, then vertical ones"),
                           seen("velocity", 2, "rad/s")};
  task.spec.action = {control::driven("torque", 1, "2 N m")};
  task.model_file = "acrobot.xml";
  task.start = start;
  task.observe = observe;
  task.reward = reward;
  task.planner = {.horizon = 200, .knots = 12, .samples = 32, .replan_every = 4, .noise = 0.5};
  return task;
}

}  // namespace gato::env::mujoco
