#include "env/control/control_environment.h"

#include <mujoco/mujoco.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "env/control/renderer.h"
#include "env/snapshot.h"
#include "gato/core/error.h"

namespace gato::env::control {
namespace {

/// What a snapshot holds beside the numbers of the simulation's state.
struct SnapshotHeader {
  int64_t steps = 0;
  int64_t playing = 0;
};

class ControlExpert : public Expert {
 public:
  explicit ControlExpert(const ControlEnvironment& environment) : environment_(environment) {}

  StepValues act() override {
    const std::vector<double> controls = environment_.task().expert(environment_.model(), environment_.data());
    FieldValue action;
    for (const double control : controls) action.continuous.push_back(static_cast<float>(std::clamp(control, -1., 1.)));
    return {action};
  }

 private:
  const ControlEnvironment& environment_;
};

}  // namespace

ControlEnvironment::ControlEnvironment(std::shared_ptr<const ControlTask> task)
    : task_(std::move(task)), model_(shared_model(task_->model_file)), data_(make_data(*model_)) {
  const episode::FieldSpec& action = task_->spec.action.at(0);
  GATO_CHECK(action.num_elements() == model_->nu, "task ", task_->spec.id, ": ", action.num_elements(), " actions for ",
             model_->nu, " motors of ", task_->model_file);
  update_derived(*model_, *data_);
}

StepValues ControlEnvironment::reset(uint64_t seed) {
  Rng rng(mix_seed(seed, {hash_name(task_->spec.id)}));
  reset_physics(*model_, *data_);
  task_->start(*data_, rng);
  update_derived(*model_, *data_);
  steps_ = 0;
  playing_ = true;
  return task_->observe(*data_);
}

StepResult ControlEnvironment::step(const StepValues& action) {
  GATO_CHECK(playing_, "task ", task_->spec.id, ": step() outside an episode; call reset() first");
  check_action(task_->spec, action);
  for (size_t i = 0; i < action[0].continuous.size(); ++i) {
    data_->ctrl[i] = std::clamp(static_cast<double>(action[0].continuous[i]), -1.0, 1.0);
  }
  playing_ = false;  // stays so if the simulation fails
  advance_physics(*model_, *data_, task_->physics_steps);
  ++steps_;
  StepResult result{.observation = task_->observe(*data_), .reward = task_->reward(*data_), .success = {}};
  result.truncated = steps_ >= task_->spec.max_steps;
  playing_ = !result.truncated;
  return result;
}

std::optional<Image> ControlEnvironment::frame() { return render_frame(model_, *data_); }

std::optional<std::string> ControlEnvironment::snapshot() const {
  const std::vector<double> state = physics_state(*model_, *data_);
  const SnapshotHeader header{.steps = steps_, .playing = playing_ ? 1 : 0};
  return pack_snapshot(task_->spec.id, header, state);
}

void ControlEnvironment::restore(const std::string& snapshot) {
  std::vector<double> state(static_cast<size_t>(physics_state_size(*model_)));
  const auto header = unpack_snapshot<SnapshotHeader>(task_->spec.id, snapshot, state);
  set_physics_state(*model_, *data_, state);
  steps_ = header.steps;
  playing_ = header.playing != 0;
}

TaskEntry make_entry(ControlTask task) {
  episode::check_task_spec(task.spec);
  const auto shared = std::make_shared<const ControlTask>(std::move(task));
  return {.id = shared->spec.id,
          .make = [shared] { return std::make_unique<ControlEnvironment>(shared); },
          .make_expert = [shared](Environment& environment) -> std::unique_ptr<Expert> {
            const auto* control = dynamic_cast<const ControlEnvironment*>(&environment);
            GATO_CHECK(control != nullptr && control->spec().id == shared->spec.id, "the expert of ", shared->spec.id,
                       " was asked to play ", environment.spec().id);
            return std::make_unique<ControlExpert>(*control);
          }};
}

FieldValue numbers(std::initializer_list<double> values) {
  FieldValue value;
  for (const double number : values) value.continuous.push_back(static_cast<float>(number));
  return value;
}

episode::FieldSpec observed(std::string name, int64_t size, float low, float high, std::string unit) {
  return {.name = std::move(name),
          .modality = episode::Modality::kContinuous,
          .shape = {size},
          .low = {low},
          .high = {high},
          .unit = std::move(unit)};
}

episode::FieldSpec driven(std::string name, int64_t size, std::string unit) {
  return observed(std::move(name), size, -1, 1, std::move(unit));
}

double wrap_angle(double angle) { return std::remainder(angle, 2 * std::numbers::pi); }

}  // namespace gato::env::control
