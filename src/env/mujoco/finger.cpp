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

constexpr double kSpinVelocity = 15;  // rad/s
constexpr int kMaxStarts = 1000;      // most do not touch

// Coordinates: both joints of the finger, the hinge of the body.

/// Any pose in which nothing touches.
void start(const Sim& sim, Rng& rng) {
  for (int i = 0; i < kMaxStarts; ++i) {
    randomise_joints(sim, rng);
    mj_forward(&sim.model, &sim.data);
    if (sim.data.ncon == 0) return;
  }
}

StepValues observe(const Sim& sim) {
  const double* const tip = site_position(sim, "tip");
  const double* const spinner = body_position(sim, "spinner");
  return {control::numbers({sim.data.qpos[0], sim.data.qpos[1], tip[0] - spinner[0], tip[2] - spinner[2]}),
          velocities(sim),
          control::numbers({std::log1p(*sensor(sim, "touch_top")), std::log1p(*sensor(sim, "touch_bottom"))})};
}

double reward(const Sim& sim) { return sim.data.qvel[2] <= -kSpinVelocity ? 1.0 : 0.0; }

/// Turning at all is worth something, and so is being near.
double guide(const Sim& sim) {
  const double* const fingertip = site_position(sim, "touch_top");
  const double* const spinner = body_position(sim, "spinner");
  const double distance = std::hypot(fingertip[0] - spinner[0], fingertip[2] - spinner[2]);
  return 0.5 * std::clamp(-sim.data.qvel[2] / kSpinVelocity, -1.0, 3.0) - 0.2 * distance;
}

}  // namespace

MujocoTask finger_spin() {
  MujocoTask task;
  task.spec.id = "finger_spin";
  task.spec.description = "Flick a body on a hinge with a finger of two joints so that it keeps turning fast.";
  task.spec.observation = {seen("position", 4, "rad, rad; m: the body's tip from its hinge"),
                           seen("velocity", 3, "rad/s"), seen("touch", 2, "log(1 + N)")};
  task.spec.action = {control::driven("torque", 2, "30 and 15 N m")};
  task.model_file = "finger.xml";
  task.physics_steps = 2;  // of 10 ms
  task.start = start;
  task.observe = observe;
  task.reward = reward;
  task.guide = guide;
  task.planner = {.horizon = 12, .knots = 12, .samples = 32, .replan_every = 1, .noise = 2.0};
  return task;
}

}  // namespace gato::env::mujoco
