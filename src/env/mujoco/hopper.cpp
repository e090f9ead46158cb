#include <mujoco/mujoco.h>

#include <algorithm>
#include <cmath>

#include "env/control/control_environment.h"
#include "env/mujoco/helpers.h"
#include "env/mujoco/tasks.h"
#include "env/mujoco/tolerance.h"

namespace gato::env::mujoco {
namespace {

constexpr double kStandHeight = 0.6;  // m, of the torso above the foot
constexpr double kHopSpeed = 2;       // m/s

StepValues observe(const Sim& sim) {
  return {positions(sim, 1), velocities(sim),
          control::numbers({std::log1p(*sensor(sim, "toe")), std::log1p(*sensor(sim, "heel"))})};
}

double height(const Sim& sim) { return body_centre(sim, "torso")[2] - body_centre(sim, "foot")[2]; }

double standing(const Sim& sim) { return inside(height(sim), kStandHeight, 2); }

double stand_reward(const Sim& sim) {
  double small_control = 0;
  for (int i = 0; i < sim.model.nu; ++i) small_control += near_quadratic(sim.data.ctrl[i]) / sim.model.nu;
  return standing(sim) * (small_control + 4) / 5;
}

double hop_reward(const Sim& sim) {
  return standing(sim) * near_linear(sensor(sim, "velocity")[0], kHopSpeed, kUnbounded, kHopSpeed / 2, 0.5);
}

/// How far up it is, in [0, 1].
double up(const Sim& sim) { return std::clamp(height(sim) / kStandHeight, 0.0, 1.0); }

/// Getting up: first the body above the foot, for who sits upright beside it stays there; then high, then upright.
double stand_guide(const Sim& sim) {
  const double upright = (1 + body_orientation(sim, "torso")[8]) / 2;
  const double* const centre = centre_of_mass(sim);
  const double beside = std::abs(centre[0] - body_centre(sim, "foot")[0]);
  return 0.5 * std::clamp(height(sim), -0.2, 0.9) + 0.5 * std::min(centre[2], 0.9) + 0.3 * up(sim) * upright -
         (1 - 0.7 * up(sim)) * std::min(beside, 0.6);
}

/// And on, as far as it is up: speed while lying is falling, and a fall must cost more than it brings.
double hop_guide(const Sim& sim) {
  const double speed = std::clamp(sensor(sim, "velocity")[0], -1.0, kHopSpeed);
  return stand_guide(sim) + 0.5 * standing(sim) + 0.3 * up(sim) * up(sim) * speed;
}

MujocoTask hopper() {
  MujocoTask task;
  task.spec.observation = {seen("position", 6, "m: height; rad: pitch, waist, hip, knee, ankle"),
                           seen("velocity", 7, "m/s, m/s, rad/s"), seen("touch", 2, "log(1 + N) under toe and heel")};
  task.spec.action = {control::driven("torque", 4, "30, 40, 30 and 10 N m")};
  task.model_file = "hopper.xml";
  task.physics_steps = 4;  // of 5 ms
  task.start = randomise_joints;
  task.observe = observe;
  task.planner = {.horizon = 60, .knots = 6, .samples = 20, .replan_every = 2, .noise = 0.9};
  return task;
}

}  // namespace

MujocoTask hopper_stand() {
  MujocoTask task = hopper();
  task.spec.id = "hopper_stand";
  task.spec.description = "Get up on the one leg and stand.";
  task.reward = stand_reward;
  task.guide = stand_guide;
  return task;
}

MujocoTask hopper_hop() {
  MujocoTask task = hopper();
  task.spec.id = "hopper_hop";
  task.spec.description = "Get up on the one leg and hop forwards, at 2 m/s or more.";
  task.reward = hop_reward;
  task.guide = hop_guide;
  return task;
}

}  // namespace gato::env::mujoco
