#include <utility>

#include "env/canvas.h"
#include "env/game/catch.h"
#include "env/native.h"
#include "env/snapshot.h"
#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/env/fields.h"

namespace gato::env {

namespace {

using game::CatchState;

TaskSpec make_catch_spec() {
  TaskSpec spec;
  spec.id = "game/catch";
  spec.description = "Move the paddle below the falling balls, seeing the screen alone.";
  spec.observation = {image_field("screen", game::kBoard * 2, game::kBoard * 2)};
  spec.action = {discrete_field("move", 3)};  // left, stay, right
  spec.max_steps = game::kCatchSteps;
  return spec;
}

class CatchEnvironment final : public Environment {
 public:
  CatchEnvironment() : spec_(make_catch_spec()) {}

  [[nodiscard]] const TaskSpec& spec() const override { return spec_; }
  [[nodiscard]] const CatchState& state() const { return state_; }

  StepValues reset(uint64_t seed) override {
    state_ = game::start_catch(seed);
    return observe();
  }

  StepResult step(const StepValues& action) override {
    check_action(spec_, action);
    GATO_CHECK(state_.balls > 0 && state_.steps < game::kCatchSteps,
               "game/catch was stepped before reset or after its end");
    StepResult result;
    result.reward = game::advance_catch(state_, action[0].discrete[0] - 1);
    result.observation = observe();
    result.truncated = state_.steps >= game::kCatchSteps;
    return result;
  }

  std::optional<Image> frame() override {
    constexpr int kScale = 6, kCaption = 24, kSide = game::kBoard * 2 * kScale;
    Canvas canvas(kSide, kSide + kCaption, {250, 250, 250});
    canvas.text(4, 5, cat("caught ", state_.caught, "/", state_.steps / (game::kBoard - 1)), {40, 44, 52}, 2);
    canvas.enlarged(0, kCaption, game::draw_catch(state_), kScale);
    return std::move(canvas).take();
  }

  [[nodiscard]] std::optional<std::string> snapshot() const override { return pack_snapshot(spec_.id, state_); }
  void restore(const std::string& snapshot) override { state_ = unpack_snapshot<CatchState>(spec_.id, snapshot); }

 private:
  [[nodiscard]] StepValues observe() const {
    StepValues observation(1);
    observation[0].image = game::draw_catch(state_);
    return observation;
  }

  TaskSpec spec_;
  CatchState state_;
};

class CatchExpert final : public Expert {
 public:
  explicit CatchExpert(const CatchEnvironment& environment) : environment_(environment) {}

  StepValues act() override {
    StepValues action(1);
    action[0].discrete = {game::expert_move(environment_.state()) + 1};
    return action;
  }

 private:
  const CatchEnvironment& environment_;
};

}  // namespace

std::vector<TaskEntry> game_tasks() {
  TaskEntry entry;
  entry.id = make_catch_spec().id;
  entry.make = [] { return std::make_unique<CatchEnvironment>(); };
  entry.make_expert = [](Environment& environment) -> std::unique_ptr<Expert> {
    const auto* own = dynamic_cast<CatchEnvironment*>(&environment);
    GATO_CHECK(own != nullptr, "the expert of game/catch was given an environment of ", environment.spec().id);
    return std::make_unique<CatchExpert>(*own);
  };
  return {entry};
}

}  // namespace gato::env
