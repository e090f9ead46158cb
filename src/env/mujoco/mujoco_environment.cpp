#include "env/mujoco/mujoco_environment.h"

#include <mujoco/mujoco.h>

#include <algorithm>
#include <utility>

#include "env/control/renderer.h"
#include "env/snapshot.h"
#include "gato/core/error.h"

namespace gato::env::mujoco {
namespace {

/// What a snapshot holds beside the numbers of the simulation's state.
struct SnapshotHeader {
  int64_t steps = 0;
  int64_t playing = 0;
  uint64_t physics_seed = 0;
};

/// One control step. Where the integrator allows it, the halves of a time step are taken in the order that leaves poses
/// and velocities of the new state known, at the cost of no more than the steps themselves.
void advance(const Sim& sim, int steps) {
  if (sim.model.opt.integrator == mjINT_RK4) {
    for (int i = 0; i < steps; ++i) mj_step(&sim.model, &sim.data);
    mj_step1(&sim.model, &sim.data);
    return;
  }
  for (int i = 0; i < steps; ++i) {
    mj_step2(&sim.model, &sim.data);
    mj_step1(&sim.model, &sim.data);
  }
}

bool diverged(const mjData& data) {
  return data.warning[mjWARN_BADQPOS].number + data.warning[mjWARN_BADQVEL].number +
             data.warning[mjWARN_BADQACC].number >
         0;
}

double planned_score(const Environment& environment, const StepResult& result) {
  return result.reward + dynamic_cast<const MujocoEnvironment&>(environment).guide();
}

}  // namespace

MujocoEnvironment::MujocoEnvironment(std::shared_ptr<const MujocoTask> task)
    : task_(std::move(task)),
      base_(control::shared_model(task_->model_file)),
      model_(base_),
      data_(control::make_data(*base_)) {
  const episode::FieldSpec& action = task_->spec.action.at(0);
  GATO_CHECK(action.num_elements() == model_->nu, "task ", task_->spec.id, ": ", action.num_elements(), " actions for ",
             model_->nu, " motors of ", task_->model_file);
  control::update_derived(*model_, *data_);
}

void MujocoEnvironment::take_physics(uint64_t seed) {
  if (task_->variation == Variation::kNone || (seed == physics_seed_ && model_ != base_)) return;
  auto model = varied_model(task_->model_file, task_->variation, seed);
  data_ = control::make_data(*model);  // where this fails, model and data still belong together
  model_ = std::move(model);
  physics_seed_ = seed;
}

StepValues MujocoEnvironment::reset(uint64_t seed) {
  Rng rng(mix_seed(seed, {hash_name(task_->spec.id)}));
  take_physics(seed);
  control::reset_physics(*model_, *data_);
  task_->start(sim(), rng);
  data_->time = 0;
  control::update_derived(*model_, *data_);
  steps_ = 0;
  playing_ = true;
  return task_->observe(sim());
}

StepResult MujocoEnvironment::step(const StepValues& action) {
  GATO_CHECK(playing_, "task ", task_->spec.id, ": step() outside an episode; call reset() first");
  check_action(task_->spec, action);
  for (size_t i = 0; i < action[0].continuous.size(); ++i) {
    data_->ctrl[i] = std::clamp(static_cast<double>(action[0].continuous[i]), -1.0, 1.0);
  }
  playing_ = false;  // stays so if the simulation fails
  advance(sim(), task_->physics_steps);
  StepResult result;
  if (diverged(*data_)) {
    result.failure = "the simulation diverged: a position, velocity or acceleration is huge or not finite";
    result.truncated = true;
    return result;
  }
  ++steps_;
  result.observation = task_->observe(sim());
  result.reward = task_->reward(sim());
  result.truncated = steps_ >= task_->spec.max_steps;
  playing_ = !result.truncated;
  return result;
}

std::optional<Image> MujocoEnvironment::frame() { return control::render_frame(base_, *model_, *data_); }

double MujocoEnvironment::guide() const { return task_->guide == nullptr ? 0.0 : task_->guide(sim()); }

std::optional<std::string> MujocoEnvironment::snapshot() const {
  const std::vector<double> state = control::physics_state(*model_, *data_);
  const SnapshotHeader header{.steps = steps_, .playing = playing_ ? 1 : 0, .physics_seed = physics_seed_};
  return pack_snapshot(task_->spec.id, header, state);
}

void MujocoEnvironment::restore(const std::string& snapshot) {
  std::vector<double> state(static_cast<size_t>(control::physics_state_size(*base_)));
  const auto header = unpack_snapshot<SnapshotHeader>(task_->spec.id, snapshot, state);
  take_physics(header.physics_seed);
  control::reset_physics(*model_, *data_);
  mj_setState(model_.get(), data_.get(), state.data(), mjSTATE_INTEGRATION);
  mj_step1(model_.get(), data_.get());  // what follows from the state, as a step leaves it
  steps_ = header.steps;
  playing_ = header.playing != 0;
}

TaskEntry make_entry(MujocoTask task, const std::optional<TaskSpec>& known) {
  if (task.guide != nullptr) task.planner.score = planned_score;
  episode::check_task_spec(task.spec);
  const auto shared = std::make_shared<const MujocoTask>(std::move(task));
  TaskEntry entry;
  entry.id = shared->spec.id;
  entry.make = [shared] { return std::make_unique<MujocoEnvironment>(shared); };
  entry.make_expert = [shared, make = entry.make](Environment& environment) {
    return make_planner(environment, make, shared->planner);
  };
  entry.known = known;
  return entry;
}

}  // namespace gato::env::mujoco
