#include <mujoco/mujoco.h>

#include <algorithm>
#include <cmath>

#include "env/control/control_environment.h"
#include "env/mujoco/helpers.h"
#include "env/mujoco/tasks.h"
#include "env/mujoco/tolerance.h"

namespace gato::env::mujoco {
namespace {

constexpr double kTargetHalf = 0.05;  // the cup's inside, a square
constexpr int kMaxStarts = 1000;      // about one in twenty touches the cup

/// The ball anywhere beside or above the cup, not touching it.
void start(const Sim& sim, Rng& rng) {
  for (int i = 0; i < kMaxStarts; ++i) {
    sim.data.qpos[2] = rng.uniform(-0.2, 0.2);
    sim.data.qpos[3] = rng.uniform(0.2, 0.5);
    mj_forward(&sim.model, &sim.data);
    if (sim.data.ncon == 0) return;
  }
}

StepValues observe(const Sim& sim) { return {positions(sim), velocities(sim)}; }

struct Offset {
  double x, z;
};

/// From the middle of the cup to the ball.
Offset ball_offset(const Sim& sim) {
  const double* const ball = body_position(sim, "ball");
  const double* const target = site_position(sim, "target");
  return {ball[0] - target[0], ball[2] - target[2]};
}

double reward(const Sim& sim) {
  const Offset offset = ball_offset(sim);
  const int ball = mj_name2id(&sim.model, mjOBJ_GEOM, "ball");
  const double room = kTargetHalf - sim.model.geom_size[3 * ball];
  return std::abs(offset.x) < room && std::abs(offset.z) < room ? 1.0 : 0.0;
}

/// The way in leads over the rim: up first, then over the middle, then down.
double guide(const Sim& sim) {
  const Offset offset = ball_offset(sim);
  const bool above = offset.z > 0;
  return above ? 0.3 - std::abs(offset.x) - 0.2 * offset.z : offset.z - 0.3 * std::max(0.0, 0.1 - std::abs(offset.x));
}

}  // namespace

MujocoTask ball_in_cup_catch() {
  MujocoTask task;
  task.spec.id = "ball_in_cup_catch";
  task.spec.description = "A ball hangs from a cup on a string; move the cup so that the ball falls into it and stays.";
  task.spec.observation = {seen("position", 4, "m; cup x and z, ball x and z"), seen("velocity", 4, "m/s")};
  task.spec.action = {control::driven("force", 2, "5 N")};
  task.model_file = "ball_in_cup.xml";
  task.physics_steps = 10;  // of 2 ms
  task.start = start;
  task.observe = observe;
  task.reward = reward;
  task.guide = guide;
  task.planner = {.horizon = 30, .knots = 5, .samples = 12, .replan_every = 3, .noise = 0.6};
  return task;
}

}  // namespace gato::env::mujoco
