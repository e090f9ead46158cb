#include "env/mujoco/tasks.h"

#include "env/mujoco/family.h"
#include "env/native.h"
#include "gato/core/text.h"

namespace gato::env {
namespace {

using namespace mujoco;

constexpr int64_t kSteps = 1000;

std::string domain(Variation variation) {
  return variation == Variation::kNone ? "mujoco" : cat("mujoco_", variation_name(variation));
}

TaskEntry entry_of(MujocoTask task, Variation variation, const std::optional<RemoteFamily>& catalogue) {
  task.spec.id = cat(domain(variation), "/", task.spec.id);
  if (variation != Variation::kNone)
    task.spec.description += cat(" The physics differ a little from episode to episode.");
  task.spec.max_steps = kSteps;
  task.variation = variation;
  const TaskSpec known = with_returns(task.spec, catalogue);
  return make_entry(std::move(task), known);
}

}  // namespace

std::vector<TaskEntry> mujoco_tasks() {
  const std::optional<RemoteFamily> catalogue = read_catalogue();
  std::vector<TaskEntry> entries;
  for (const Variation variation : {Variation::kNone, Variation::kSmall, Variation::kLarge}) {
    for (auto* const task : {acrobot_swingup, ball_in_cup_catch, cartpole_swingup, cheetah_run, finger_spin, hopper_hop,
                             hopper_stand, walker_stand, walker_walk}) {
      entries.push_back(entry_of(task(), variation, catalogue));
    }
  }
  return entries;
}

}  // namespace gato::env
