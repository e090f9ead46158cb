#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "env/control/physics.h"
#include "env/mujoco/variation.h"
#include "gato/core/random.h"
#include "gato/env/environment.h"
#include "gato/env/planner.h"

/// Tasks of the DeepMind Control Suite in this process: its bodies, starts, observations and rewards, without Python.
/// (The suite itself, played by its package, is the family dm_control.)
namespace gato::env::mujoco {

/// A simulation as the functions of a task see it.
struct Sim {
  const mjModel& model;
  mjData& data;
};

/// A task as data. One continuous action field, whose elements in [-1, 1] are the model's controls. Episodes end at
/// spec.max_steps only.
struct MujocoTask {
  TaskSpec spec;
  std::string model_file;  ///< In data/models/.
  int physics_steps = 1;   ///< Time steps of the model per control step.
  Variation variation = Variation::kNone;
  /// Draws the start of an episode into a simulation that is in its reference configuration at rest.
  void (*start)(const Sim& sim, Rng& rng) = nullptr;
  /// What the agent sees, aligned with spec.observation.
  StepValues (*observe)(const Sim& sim) = nullptr;
  /// How good the state is, in [0, 1].
  double (*reward)(const Sim& sim) = nullptr;
  /// What the planner adds to the reward where that alone shows no way; nullptr: nothing.
  double (*guide)(const Sim& sim) = nullptr;
  PlannerOptions planner;
};

class MujocoEnvironment : public Environment {
 public:
  /// ConfigError when the task's model cannot be loaded.
  explicit MujocoEnvironment(std::shared_ptr<const MujocoTask> task);

  [[nodiscard]] const TaskSpec& spec() const override { return task_->spec; }
  StepValues reset(uint64_t seed) override;
  /// Clips controls to [-1, 1]. DataError for NaN or a wrong number of values; ContractError outside an episode. A
  /// simulation that diverges ends the episode as failed.
  StepResult step(const StepValues& action) override;
  std::optional<Image> frame() override;
  [[nodiscard]] std::optional<std::string> snapshot() const override;
  void restore(const std::string& snapshot) override;  ///< DataError for what snapshot() of this task did not write.

  [[nodiscard]] double guide() const;  ///< MujocoTask::guide in the present state, else 0.
  [[nodiscard]] const mjModel& model() const { return *model_; }
  [[nodiscard]] const mjData& data() const { return *data_; }

 private:
  [[nodiscard]] Sim sim() const { return {*model_, *data_}; }
  void take_physics(uint64_t seed);  // the model of the episode of `seed`

  std::shared_ptr<const MujocoTask> task_;
  std::shared_ptr<const mjModel> base_, model_;  // as written; as varied for this episode
  control::DataPtr data_;
  uint64_t physics_seed_ = 0;
  int64_t steps_ = 0;
  bool playing_ = false;  // between reset() and the last step
};

/// The registry entry of a task; `known` holds its measured returns, if there are any.
[[nodiscard]] TaskEntry make_entry(MujocoTask task, const std::optional<TaskSpec>& known);

}  // namespace gato::env::mujoco
