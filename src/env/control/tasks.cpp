#include "env/control/tasks.h"

#include "env/native.h"

namespace gato::env {

std::vector<TaskEntry> control_tasks() {
  using namespace control;
  std::vector<TaskEntry> entries;
  for (auto* const task : {cartpole_balance, pendulum_swingup, reacher, point_mass}) {
    entries.push_back(make_entry(task()));
  }
  return entries;
}

}  // namespace gato::env
