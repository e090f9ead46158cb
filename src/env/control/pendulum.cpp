#include <mujoco/mujoco.h>

#include <cmath>
#include <numbers>

#include "env/control/tasks.h"

namespace gato::env::control {
namespace {

// Coordinate: the angle from upright.

void start(mjData& data, Rng& rng) {
  data.qpos[0] = std::numbers::pi + rng.uniform(-1.0, 1.0);
  data.qvel[0] = rng.uniform(-1.0, 1.0);
}

StepValues observe(const mjData& data) {
  return {numbers({std::cos(data.qpos[0]), std::sin(data.qpos[0])}), numbers({data.qvel[0]})};
}

/// Height of the mass: 1 above the hinge, 0 below it.
double reward(const mjData& data) { return (1 + std::cos(data.qpos[0])) / 2; }

/// Near upright a proportional-derivative controller holds the mass. Elsewhere the motor pumps energy (Astrom and
/// Furuta, "Swinging up a pendulum by energy control", Automatica 2000): torque along the velocity while the energy is
/// below that of resting upright, against it while above.
std::vector<double> expert(const mjModel& model, const mjData& data) {
  const double angle = wrap_angle(data.qpos[0]);
  const double speed = data.qvel[0];
  if (std::abs(angle) < 0.35 && std::abs(speed + 3 * angle) < 1.6) return {-(4.5 * angle + 1.3 * speed)};
  const double inertia = model.dof_M0[0];
  const double weight = -model.opt.gravity[2] * model.body_mass[1] * model.body_ipos[2 + 3];  // N m at the horizontal
  const double energy = inertia * speed * speed / 2 + weight * std::cos(angle);
  const double direction = std::abs(speed) > 0.05 ? speed : 0.3;  // at rest any direction does
  return {(weight - energy) * direction};
}

}  // namespace

ControlTask pendulum_swingup() {
  ControlTask task;
  task.spec.id = "control/pendulum_swingup";
  task.spec.description = "Swing a pendulum up with a motor too weak to lift it, and hold it upright.";
  task.spec.observation = {observed("angle", 2, -1, 1, "cosine and sine of the angle from upright"),
                           observed("velocity", 1, -40, 40, "rad/s")};
  task.spec.action = {driven("torque", 1, "4 N m")};
  task.spec.max_steps = 200;
  task.model_file = "pendulum.xml";
  task.physics_steps = 4;
  task.start = start;
  task.observe = observe;
  task.reward = reward;
  task.expert = expert;
  return task;
}

}  // namespace gato::env::control
