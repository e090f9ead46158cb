#include <mujoco/mujoco.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "env/control/control_environment.h"
#include "env/mujoco/helpers.h"
#include "env/mujoco/tasks.h"
#include "env/mujoco/tolerance.h"

namespace gato::env::mujoco {
namespace {

// Coordinates: the cart's place, the pole's angle from upright.

void start(const Sim& sim, Rng& rng) {
  sim.data.qpos[0] = 0.01 * rng.normal();
  sim.data.qpos[1] = std::numbers::pi + 0.01 * rng.normal();
  sim.data.qvel[0] = 0.01 * rng.normal();
  sim.data.qvel[1] = 0.01 * rng.normal();
}

StepValues observe(const Sim& sim) {
  const double angle = sim.data.qpos[1];
  return {control::numbers({sim.data.qpos[0], std::cos(angle), std::sin(angle)}), velocities(sim)};
}

double reward(const Sim& sim) {
  const double upright = (std::cos(sim.data.qpos[1]) + 1) / 2;
  const double centred = (1 + near(sim.data.qpos[0], 0, 0, 2)) / 2;
  const double small_control = (4 + near_quadratic(sim.data.ctrl[0])) / 5;
  const double slow = (1 + near(sim.data.qvel[1], 0, 0, 5)) / 2;
  return upright * centred * small_control * slow;
}

}  // namespace

MujocoTask cartpole_swingup() {
  MujocoTask task;
  task.spec.id = "cartpole_swingup";
  task.spec.description = "Push a cart so that the pole that hangs from it swings up and stays upright.";
  task.spec.observation = {seen("position", 3, "m, cosine and sine of the pole's angle from upright"),
                           seen("velocity", 2, "m/s, rad/s")};
  task.spec.action = {control::driven("force", 1, "10 N")};
  task.model_file = "swing_cart.xml";
  task.start = start;
  task.observe = observe;
  task.reward = reward;
  task.planner = {.horizon = 100, .knots = 8, .samples = 24, .replan_every = 2, .noise = 0.5};
  return task;
}

}  // namespace gato::env::mujoco
