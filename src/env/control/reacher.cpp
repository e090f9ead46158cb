#include <mujoco/mujoco.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "env/control/tasks.h"

namespace gato::env::control {
namespace {

using std::numbers::pi;

// Coordinates: the shoulder's angle, the elbow's angle. The model has one site, the fingertip, and one mocap body, the
// target.

struct Point {
  double x = 0, y = 0;
};

Point fingertip(const mjData& data) { return {data.site_xpos[0], data.site_xpos[1]}; }

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

/// Angles that put the fingertip on `goal`, with the elbow bent to the positive side (law of cosines).
std::array<double, 2> inverse_kinematics(const mjModel& model, Point goal) {
  const double upper = model.body_pos[3 * 2];  // from the shoulder to the elbow, where body 2 begins
  const double lower = model.site_pos[0];
  const double cosine = (goal.x * goal.x + goal.y * goal.y - upper * upper - lower * lower) / (2 * upper * lower);
  const double elbow = std::acos(std::clamp(cosine, -1.0, 1.0));
  const double between = std::atan2(lower * std::sin(elbow), upper + lower * std::cos(elbow));
  return {std::atan2(goal.y, goal.x) - between, elbow};
}

/// Computed torque: the angular acceleration of a proportional-derivative law, times the arm's inertia, plus the forces
/// that the motion itself causes.
std::vector<double> expert(const mjModel& model, const mjData& data) {
  const std::array<double, 2> wanted = inverse_kinematics(model, target(data));
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
