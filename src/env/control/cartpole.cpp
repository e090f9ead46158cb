#include <mujoco/mujoco.h>

#include <algorithm>
#include <cmath>

#include "env/control/tasks.h"

namespace gato::env::control {
namespace {

constexpr int kPhysicsSteps = 2;

// Coordinates: the cart's place, the pole's angle from upright.

void start(mjData& data, Rng& rng) {
  data.qpos[0] = rng.uniform(-0.5, 0.5);
  data.qpos[1] = rng.uniform(-0.3, 0.3);
  data.qvel[0] = rng.uniform(-0.3, 0.3);
  data.qvel[1] = rng.uniform(-0.3, 0.3);
}

StepValues observe(const mjData& data) {
  return {numbers({std::cos(data.qpos[1]), std::sin(data.qpos[1])}), numbers({data.qpos[0]}),
          numbers({data.qvel[0], data.qvel[1]})};
}

/// 1 with the pole upright in the middle of the rail, 0 for a pole below the horizontal.
double reward(const mjData& data) {
  const double x = data.qpos[0];
  return std::max(0.0, std::cos(data.qpos[1])) * std::exp(-x * x / 0.25);
}

/// Linear quadratic regulator about the upright pole.
std::vector<double> expert(const mjModel& model, const mjData& data) {
  static const Matrix gain =
      solve_lqr(linearise(model, kPhysicsSteps), Matrix::diagonal({2, 2, 0.1, 0.1}), Matrix::diagonal({0.5})).gain;
  const Matrix state(4, 1, {data.qpos[0], wrap_angle(data.qpos[1]), data.qvel[0], data.qvel[1]});
  return {-(gain * state)(0, 0)};
}

}  // namespace

ControlTask cartpole_balance() {
  ControlTask task;
  task.spec.id = "control/cartpole_balance";
  task.spec.description = "Push a cart left and right so that the pole on it stays upright in the middle of the rail.";
  task.spec.observation = {observed("angle", 2, -1, 1, "cosine and sine of the pole's angle from upright"),
                           observed("position", 1, -1.8F, 1.8F, "m"), observed("velocity", 2, -40, 40, "m/s, rad/s")};
  task.spec.action = {driven("force", 1, "10 N")};
  task.spec.max_steps = 200;
  task.model_file = "cartpole.xml";
  task.physics_steps = kPhysicsSteps;
  task.start = start;
  task.observe = observe;
  task.reward = reward;
  task.expert = expert;
  return task;
}

}  // namespace gato::env::control
