#include <mujoco/mujoco.h>

#include <cmath>

#include "env/control/tasks.h"

namespace gato::env::control {
namespace {

// Coordinates: x and y of the mass. The target is the position of the model's one mocap body.

double to_target(const mjData& data, size_t axis) { return data.mocap_pos[axis] - data.qpos[axis]; }

void start(mjData& data, Rng& rng) {
  for (size_t i = 0; i < 2; ++i) {
    data.qpos[i] = rng.uniform(-1.0, 1.0);
    data.mocap_pos[i] = rng.uniform(-1.0, 1.0);
  }
}

StepValues observe(const mjData& data) {
  return {numbers({data.qpos[0], data.qpos[1]}), numbers({to_target(data, 0), to_target(data, 1)}),
          numbers({data.qvel[0], data.qvel[1]})};
}

/// 1 on the target, 0.37 at 0.3 m.
double reward(const mjData& data) {
  const double distance = std::hypot(to_target(data, 0), to_target(data, 1));
  return std::exp(-distance * distance / 0.09);
}

/// A spring to the target and a damper, nearly critically damped together with the friction of the table.
std::vector<double> expert(const mjModel& model, const mjData& data) {
  std::vector<double> controls(2);
  for (size_t i = 0; i < 2; ++i) {
    controls[i] = (6 * to_target(data, i) - 4 * data.qvel[i]) / model.actuator_gear[6 * i];
  }
  return controls;
}

}  // namespace

ControlTask point_mass() {
  ControlTask task;
  task.spec.id = "control/point_mass";
  task.spec.description = "Push a mass on a table to a target and keep it there.";
  task.spec.observation = {observed("position", 2, -1.6F, 1.6F, "m"), observed("to_target", 2, -2.6F, 2.6F, "m"),
                           observed("velocity", 2, -6, 6, "m/s")};
  task.spec.action = {driven("force", 2, "3 N")};
  task.spec.max_steps = 200;
  task.model_file = "point_mass.xml";
  task.physics_steps = 2;
  task.start = start;
  task.observe = observe;
  task.reward = reward;
  task.expert = expert;
  return task;
}

}  // namespace gato::env::control
