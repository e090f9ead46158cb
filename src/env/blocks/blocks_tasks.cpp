#include <cmath>
#include <utility>

#include "env/blocks/blocks_camera.h"
#include "env/blocks/blocks_expert.h"
#include "env/blocks/blocks_world.h"
#include "env/canvas.h"
#include "env/native.h"
#include "env/snapshot.h"
#include "gato/core/error.h"
#include "gato/env/fields.h"

namespace gato::env {

namespace {

using blocks::Camera;
using blocks::World;

TaskSpec make_stack_spec() {
  constexpr float kPi = 3.1415927F;
  TaskSpec spec;
  spec.id = "blocks/stack";
  spec.description = "Stack the red block on the blue one with an arm and its gripper, seeing two cameras.";
  const auto view = [](const char* name) { return image_field(name, blocks::kViewSide, blocks::kViewSide); };
  spec.observation = {view("front"),
                      view("wrist"),
                      continuous_field("joints", 3, -kPi, kPi, "rad"),
                      continuous_field("fingertips", 3, -0.2F, 0.28F, "m"),
                      continuous_field("angle", 1, -kPi / 2, kPi / 2, "rad"),
                      continuous_field("gripper", 1, 0, static_cast<float>(blocks::kWidestGrip), "m"),
                      discrete_field("holding", 2)};
  // Along x, y, z (20 mm a step), a turn (0.15 rad), and the fingers: 1 closes, -1 opens.
  spec.action = {continuous_field("move", blocks::kActions, -1, 1)};
  spec.max_steps = blocks::kMaxSteps;
  return spec;
}

FieldValue numbers(std::initializer_list<double> values) {
  FieldValue value;
  for (const double number : values) value.continuous.push_back(static_cast<float>(number));
  return value;
}

class StackEnvironment final : public Environment {
 public:
  StackEnvironment() : spec_(make_stack_spec()) {}

  [[nodiscard]] const TaskSpec& spec() const override { return spec_; }
  [[nodiscard]] const World& world() const { return state_.world; }

  StepValues reset(uint64_t seed) override {
    state_ = {blocks::make_world(seed), true};
    return observe();
  }

  StepResult step(const StepValues& action) override {
    check_action(spec_, action);
    GATO_CHECK(state_.playing, spec_.id, " was stepped before reset or after its end");
    std::array<double, blocks::kActions> move;
    for (size_t i = 0; i < move.size(); ++i) move[i] = static_cast<double>(action[0].continuous[i]);
    const bool stacked = blocks::advance(state_.world, move);
    state_.playing = !state_.world.over;
    StepResult result;
    result.observation = observe();
    result.reward = stacked ? 1 : 0;
    result.terminated = stacked;
    result.truncated = state_.world.over && !stacked;
    if (state_.world.over) result.success = stacked;
    return result;
  }

  /// Both cameras, side by side.
  std::optional<Image> frame() override {
    constexpr int kSide = 192, kGap = 4;
    Image picture = blocks::draw_view(state_.world, Camera::kFront, kSide);
    Canvas canvas(2 * kSide + kGap, kSide, {250, 250, 250});
    canvas.enlarged(0, 0, picture, 1);
    canvas.enlarged(kSide + kGap, 0, blocks::draw_view(state_.world, Camera::kWrist, kSide), 1);
    return std::move(canvas).take();
  }

  [[nodiscard]] std::optional<std::string> snapshot() const override { return pack_snapshot(spec_.id, state_); }
  void restore(const std::string& snapshot) override { state_ = unpack_snapshot<State>(spec_.id, snapshot); }

 private:
  struct State {
    World world;
    bool playing = false;  // between reset() and the last step
  };

  [[nodiscard]] StepValues observe() const {
    const World& world = state_.world;
    const blocks::Joints joints = blocks::joints_of(world);
    StepValues observation(spec_.observation.size());
    observation[0].image = blocks::draw_view(world, Camera::kFront);
    observation[1].image = blocks::draw_view(world, Camera::kWrist);
    observation[2] = numbers({joints.shoulder, joints.elbow, joints.wrist});
    observation[3] = numbers({world.tip.x, world.tip.y, world.tip.z});
    observation[4] = numbers({world.yaw});
    observation[5] = numbers({world.grip});
    observation[6].discrete = {world.held >= 0 ? 1 : 0};
    return observation;
  }

  TaskSpec spec_;
  State state_;
};

class StackExpert final : public Expert {
 public:
  explicit StackExpert(const StackEnvironment& environment) : environment_(environment) {}

  StepValues act() override {
    StepValues action(1);
    for (const double value : blocks::expert_action(environment_.world())) {
      action[0].continuous.push_back(static_cast<float>(value));
    }
    return action;
  }

 private:
  const StackEnvironment& environment_;
};

}  // namespace

std::vector<TaskEntry> block_tasks() {
  TaskEntry entry;
  entry.id = make_stack_spec().id;
  entry.make = [] { return std::make_unique<StackEnvironment>(); };
  entry.make_expert = [](Environment& environment) -> std::unique_ptr<Expert> {
    const auto* own = dynamic_cast<StackEnvironment*>(&environment);
    GATO_CHECK(own != nullptr, "the block expert was given an environment of ", environment.spec().id);
    return std::make_unique<StackExpert>(*own);
  };
  return {entry};
}

}  // namespace gato::env
