#include <mujoco/mujoco.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "env/control/tasks.h"

namespace gato::env::control {
namespace {

using std::numbers::pi;

constexpr double kLink = 0.5;  // m, as in the model

// Coordinates: the shoulder's angle, the elbow's angle. The target is the position of the model's one mocap body.

struct Point {
  double x = 0, y = 0;
};

Point fingertip(const mjData& data) {
  const double shoulder = data.qpos[0];
  const double lower = shoulder + data.qpos[1];
  return {kLink * (std::cos(shoulder) + std::cos(lower)), kLink * (std::sin(shoulder) + std::sin(lower))};
}

Point target(const mjData& data) { return {data.mocap_pos[0], data.mocap_pos[1]}; }

void start(mjData& data, Rng& rng) {
  data.qpos[0] = rng.uniform(-pi, pi);
  data.qpos[1] = rng.uniform(0.3, 2.5);
  const double distance = rng.uniform(0.3, 0.9);
  const double bearing = rng.uniform(-pi, pi);
  data.mocap_pos[0] = distance * std::cos(bearing);
  data.mocap_pos[1] = distance * std::sin(bearing);
}

StepValues observe(const mjData& data) {
  const Point goal = target(data);
  const Point tip = fingertip(data);
  return {numbers({std::cos(data.qpos[0]), std::sin(data.qpos[0]), std::cos(data.qpos[1]), std::sin(data.qpos[1])}),
          numbers({goal.x, goal.y}), numbers({goal.x - tip.x, goal.y - tip.y}), numbers({data.qvel[0], data.qvel[1]})};
}

/// 1 with the fingertip on the target, 0.37 at 0.2 m.
double reward(const mjData& data) {
  const Point goal = target(data);
  const Point tip = fingertip(data);
  const double distance = std::hypot(goal.x - tip.x, goal.y - tip.y);
  return std::exp(-distance * distance / 0.04);
}

/// Angles that put the fingertip on `goal`, with the elbow bent to the positive side.
std::array<double, 2> inverse_kinematics(Point goal) {
  const double cosine = (goal.x * goal.x + goal.y * goal.y) / (2 * kLink * kLink) - 1;
  const double elbow = std::acos(std::clamp(cosine, -1.0, 1.0));
  const double shoulder = std::atan2(goal.y, goal.x) - elbow / 2;  // links of equal length: an isosceles triangle
  return {shoulder, elbow};
}

/// Computed torque: the angular acceleration of a proportional-derivative law, times the arm's inertia, plus the forces
/// that the motion itself causes.
std::vector<double> expert(const mjModel& model, const mjData& data) {
  const std::array<double, 2> wanted = inverse_kinematics(target(data));
  std::array<double, 2> acceleration{};
  for (size_t i = 0; i < 2; ++i) {
    const double error = std::clamp(wrap_angle(wanted[i] - data.qpos[i]), -0.5, 0.5);  // far away: constant speed
    acceleration[i] = 36 * error - 10 * data.qvel[i];
  }
  std::array<double, 4> inertia{};
  mj_fullM(&model, inertia.data(), data.qM);
  std::vector<double> controls(2);
  for (size_t i = 0; i < 2; ++i) {
    const double torque = inertia[2 * i] * acceleration[0] + inertia[2 * i + 1] * acceleration[1] + data.qfrc_bias[i] +
                          model.dof_damping[i] * data.qvel[i];
    controls[i] = torque / model.actuator_gear[6 * i];
  }
  return controls;
}

}  // namespace

ControlTask reacher() {
  ControlTask task;
  task.spec.id = "control/reacher";
  task.spec.description = "Bring the fingertip of a two-link arm to a target in the plane and keep it there.";
  task.spec.observation = {observed("angle", 4, -1, 1, "cosine and sine of shoulder and elbow"),
                           observed("target", 2, -0.9F, 0.9F, "m"), observed("to_target", 2, -1.9F, 1.9F, "m"),
                           observed("velocity", 2, -60, 60, "rad/s")};
  task.spec.action = {driven("torque", 2, "4 N m, 2 N m")};
  task.spec.max_steps = 200;
  task.model_file = "reacher.xml";
  task.physics_steps = 2;
  task.start = start;
  task.observe = observe;
  task.reward = reward;
  task.expert = expert;
  return task;
}

}  // namespace gato::env::control
