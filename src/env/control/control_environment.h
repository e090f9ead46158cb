#pragma once
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "env/control/physics.h"
#include "gato/core/random.h"
#include "gato/env/environment.h"

namespace gato::env::control {

/// A control task as data: a model, and functions of the state of its simulation. One continuous action field, whose
/// elements in [-1, 1] are the model's controls (times each motor's gear). Episodes end at spec.max_steps only.
struct ControlTask {
  TaskSpec spec;
  std::string model_file;  ///< In data/models/.
  int physics_steps = 1;   ///< Time steps of the model per control step.
  /// Draws the start of an episode into a simulation that is in its reference configuration at rest.
  void (*start)(mjData& data, Rng& rng) = nullptr;
  /// What the agent sees, aligned with spec.observation.
  StepValues (*observe)(const mjData& data) = nullptr;
  /// How good the state is, in [0, 1].
  double (*reward)(const mjData& data) = nullptr;
  /// Controls of the expert, before clipping.
  std::vector<double> (*expert)(const mjModel& model, const mjData& data) = nullptr;
};

class ControlEnvironment : public Environment {
 public:
  /// Shares the task's model. ConfigError when it cannot be loaded.
  explicit ControlEnvironment(std::shared_ptr<const ControlTask> task);

  [[nodiscard]] const TaskSpec& spec() const override { return task_->spec; }
  StepValues reset(uint64_t seed) override;
  /// Clips controls to [-1, 1]. DataError for NaN or a wrong number of values; ContractError outside an episode.
  StepResult step(const StepValues& action) override;
  std::optional<Image> frame() override;
  [[nodiscard]] std::optional<std::string> snapshot() const override;
  void restore(const std::string& snapshot) override;  ///< DataError for what snapshot() of this task did not write.

  [[nodiscard]] const ControlTask& task() const { return *task_; }
  [[nodiscard]] const mjModel& model() const { return *model_; }
  [[nodiscard]] const mjData& data() const { return *data_; }

 private:
  std::shared_ptr<const ControlTask> task_;
  std::shared_ptr<const mjModel> model_;
  DataPtr data_;
  int64_t steps_ = 0;
  bool playing_ = false;  // between reset() and the last step
};

/// The registry entry of a task.
[[nodiscard]] TaskEntry make_entry(ControlTask task);

// Helpers of the tasks.

/// A continuous value.
[[nodiscard]] FieldValue numbers(std::initializer_list<double> values);

/// A continuous field of an observation with the same bounds for all elements.
[[nodiscard]] episode::FieldSpec observed(std::string name, int64_t size, float low, float high, std::string unit);

/// The action field: `size` elements in [-1, 1]; `unit` says what 1 stands for.
[[nodiscard]] episode::FieldSpec driven(std::string name, int64_t size, std::string unit);

/// `angle` in radians brought to [-pi, pi].
[[nodiscard]] double wrap_angle(double angle);

}  // namespace gato::env::control
