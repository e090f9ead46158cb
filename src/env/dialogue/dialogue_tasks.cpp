#include <utility>

#include "env/dialogue/dialogue.h"
#include "env/native.h"
#include "env/snapshot.h"
#include "gato/core/error.h"
#include "gato/env/fields.h"

namespace gato::env {

namespace {

using dialogue::Turn;

TaskSpec make_spec() {
  TaskSpec spec;
  spec.id = "dialogue/colors";
  spec.description = "Reply in a short dialogue, and remember the colours that were told in it.";
  spec.observation = {text_field("user")};
  spec.action = {text_field("text")};
  spec.scoring = episode::Scoring::kExactMatch;
  spec.max_steps = dialogue::kMaxTurns;
  return spec;
}

struct DialogueState {
  uint64_t seed = 0;
  uint32_t turn = 0;
  bool open = false;
  bool all_right = true;
};

/// A turn per step. What the user says does not depend on the replies; every right one earns its share of a return
/// of 1.
class DialogueEnvironment final : public Environment {
 public:
  DialogueEnvironment() : spec_(make_spec()) {}

  [[nodiscard]] const TaskSpec& spec() const override { return spec_; }

  StepValues reset(uint64_t seed) override {
    state_ = {};
    state_.seed = seed;
    state_.open = true;
    turns_ = dialogue::make_dialogue(seed);
    return observe();
  }

  StepResult step(const StepValues& action) override {
    check_action(spec_, action);
    GATO_CHECK(state_.open, spec_.id, " was stepped before reset or after its end");
    const bool right = action[0].text == turns_[state_.turn].reply;
    state_.all_right = state_.all_right && right;
    StepResult result;
    result.reward = right ? 1.0 / static_cast<double>(turns_.size()) : 0.0;
    result.terminated = ++state_.turn == turns_.size();
    state_.open = !result.terminated;
    if (result.terminated) {
      result.success = state_.all_right;
    } else {
      result.observation = observe();
    }
    return result;
  }

  [[nodiscard]] std::optional<std::string> reference_answer() const override {
    if (!state_.open) return std::nullopt;
    return turns_[state_.turn].reply;
  }

  [[nodiscard]] std::optional<std::string> snapshot() const override { return pack_snapshot(spec_.id, state_); }
  void restore(const std::string& snapshot) override {
    state_ = unpack_snapshot<DialogueState>(spec_.id, snapshot);
    turns_ = dialogue::make_dialogue(state_.seed);
  }

 private:
  [[nodiscard]] StepValues observe() const {
    StepValues observation(1);
    observation[0].text = turns_[state_.turn].user;
    return observation;
  }

  TaskSpec spec_;
  DialogueState state_;
  std::vector<Turn> turns_;
};

}  // namespace

std::vector<TaskEntry> dialogue_tasks() {
  TaskEntry entry;
  entry.id = make_spec().id;
  entry.make = [] { return std::make_unique<DialogueEnvironment>(); };
  entry.make_expert = make_answering_expert;
  return {entry};
}

}  // namespace gato::env
