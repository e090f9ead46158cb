#pragma once
#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/env/environment.h"
#include "gato/env/fields.h"

/// Small tasks that tests register.
namespace gato::env::test {

/// Ten steps; the observation is a number that changes by the push, the reward its closeness to zero. Steps above
/// `fail_after` throw.
class Walk final : public Environment {
 public:
  static constexpr int kSteps = 10;

  explicit Walk(std::string id, int fail_after = kSteps) : fail_after_(fail_after) {
    spec_.id = std::move(id);
    spec_.observation = {continuous_field("place", 1, -10, 10)};
    spec_.action = {continuous_field("push", 1, -2, 4)};
    spec_.max_steps = kSteps;
  }

  [[nodiscard]] const TaskSpec& spec() const override { return spec_; }
  StepValues reset(uint64_t seed) override {
    place_ = Rng(mix_seed(seed, {1})).uniform(-5, 5);
    steps_ = 0;
    return observe();
  }
  StepResult step(const StepValues& action) override {
    check_action(spec_, action);
    GATO_CHECK(steps_ < kSteps, "the walk is over");
    if (++steps_ > fail_after_) throw DataError("the road is washed away");
    place_ += static_cast<double>(std::clamp(action[0].continuous[0], -2.0F, 4.0F));
    StepResult result;
    result.observation = observe();
    result.reward = -std::abs(place_);
    result.truncated = steps_ == kSteps;
    return result;
  }
  [[nodiscard]] double place() const { return place_; }

 private:
  [[nodiscard]] StepValues observe() const {
    StepValues observation(1);
    observation[0].continuous = {static_cast<float>(place_)};
    return observation;
  }
  TaskSpec spec_;
  int fail_after_;
  double place_ = 0;
  int steps_ = kSteps;
};

class WalkExpert final : public Expert {
 public:
  explicit WalkExpert(const Walk& walk) : walk_(walk) {}
  StepValues act() override {
    StepValues action(1);
    action[0].continuous = {static_cast<float>(std::clamp(-walk_.place(), -2.0, 4.0))};
    return action;
  }

 private:
  const Walk& walk_;
};

/// Registers a Walk under `id` unless that was done before.
inline void register_walk(const std::string& id, int fail_after = Walk::kSteps, bool with_expert = true) {
  const auto ids = task_ids();
  if (std::find(ids.begin(), ids.end(), id) != ids.end()) return;
  TaskEntry entry;
  entry.id = id;
  entry.make = [=] { return std::make_unique<Walk>(id, fail_after); };
  if (with_expert) {
    entry.make_expert = [](Environment& environment) {
      return std::make_unique<WalkExpert>(dynamic_cast<Walk&>(environment));
    };
  }
  register_task(std::move(entry));
}

}  // namespace gato::env::test
