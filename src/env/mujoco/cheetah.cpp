#include <mujoco/mujoco.h>

#include <algorithm>

#include "env/control/control_environment.h"
#include "env/mujoco/helpers.h"
#include "env/mujoco/tasks.h"
#include "env/mujoco/tolerance.h"

namespace gato::env::mujoco {
namespace {

constexpr double kRunSpeed = 10;     // m/s
constexpr int kSettlingSteps = 200;  // of physics: the body falls to the ground

/// Joints anywhere in their ranges, then fallen to the ground.
void start(const Sim& sim, Rng& rng) {
  for (int joint = 0; joint < sim.model.njnt; ++joint) {
    if (sim.model.jnt_limited[joint] == 0) continue;
    sim.data.qpos[joint] = rng.uniform(sim.model.jnt_range[2 * joint], sim.model.jnt_range[2 * joint + 1]);
  }
  for (int i = 0; i < kSettlingSteps; ++i) mj_step(&sim.model, &sim.data);
}

StepValues observe(const Sim& sim) { return {positions(sim, 1), velocities(sim)}; }

double reward(const Sim& sim) { return near_linear(sensor(sim, "velocity")[0], kRunSpeed, kUnbounded, kRunSpeed, 0); }

}  // namespace

MujocoTask cheetah_run() {
  MujocoTask task;
  task.spec.id = "cheetah_run";
  task.spec.description = "Run forwards as fast as possible with a hind and a fore leg, up to 10 m/s.";
  task.spec.observation = {seen("position", 8, "m: height; rad: pitch, then hip, knee and ankle behind and in front"),
                           seen("velocity", 9, "m/s, m/s, rad/s")};
  task.spec.action = {control::driven("torque", 6, "120, 90, 60, 90, 60 and 30 N m")};
  task.model_file = "cheetah.xml";
  task.start = start;
  task.observe = observe;
  task.reward = reward;
  task.planner = {.horizon = 40, .knots = 8, .samples = 32, .replan_every = 2, .noise = 0.8};
  return task;
}

}  // namespace gato::env::mujoco
