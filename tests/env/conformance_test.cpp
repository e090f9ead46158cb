#include "gato/env/conformance.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/env/fields.h"
#include "gato/env/native_family.h"

namespace gato::env {
namespace {

class EveryTask : public testing::TestWithParam<std::string> {};

TEST_P(EveryTask, KeepsTheContract) {
  const std::vector<std::string> violations = check_environment(find_task(GetParam()));
  EXPECT_TRUE(violations.empty()) << join(violations, "\n");
}

TEST_P(EveryTask, BeginsDifferentlyForDifferentSeeds) {
  const auto environment = make_environment(GetParam());
  std::vector<StepValues> starts;
  for (uint64_t seed = 0; seed < 8; ++seed) {
    StepValues start = environment->reset(seed);
    if (std::find(starts.begin(), starts.end(), start) == starts.end()) starts.push_back(std::move(start));
  }
  EXPECT_GE(starts.size(), 2u);
}

std::string test_name(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  std::replace_if(
      name.begin(), name.end(), [](char c) { return !std::isalnum(static_cast<unsigned char>(c)); }, '_');
  return name;
}

/// Those of Python packages have a test of their own, which needs their workers: tests/integration/environments.sh. So
/// have those whose expert plans, in mujoco_test.cpp.
std::vector<std::string> native_tasks() {
  std::vector<std::string> ids;
  for (const std::string& id : task_ids()) {
    if (find_task(id).family.empty() && native_packages_of(id).empty()) ids.push_back(id);
  }
  return ids;
}

INSTANTIATE_TEST_SUITE_P(Native, EveryTask, testing::ValuesIn(native_tasks()), test_name);

/// Guess a digit; breaks the contract in the one way that `fault` names.
enum class Fault {
  kNone,
  kWrongId,
  kValueOutsideSpec,
  kInfiniteObservation,
  kNoReplay,
  kSharedState,
  kEndless,
  kBothEnds,
  kEarlyTruncation,
  kEarlySuccess,
  kAcceptsBadActions,
  kNoClipping,
  kStepsAfterEnd,
  kBadFrame,
  kBadSnapshot,
  kThrows,
  kPoorExpert,
  kExpertOutOfBounds,
};

int g_shared_state = 0;

class Guess final : public Environment {
 public:
  explicit Guess(Fault fault) : fault_(fault) {
    spec_.id = fault == Fault::kWrongId ? "test/other" : "test/guess";
    spec_.observation = {discrete_field("hint", 10), continuous_field("size", 2, -1, 1)};
    spec_.action = {discrete_field("guess", 10), continuous_field("force", 2, -1, 1)};
    spec_.max_steps = 5;
  }
  [[nodiscard]] const TaskSpec& spec() const override { return spec_; }

  StepValues reset(uint64_t seed) override {
    if (fault_ == Fault::kThrows) throw DataError("the machine is out of paper");
    state_ = {};
    state_.number = static_cast<int32_t>(seed % 7);
    state_.playing = true;
    if (fault_ == Fault::kNoReplay) state_.number = g_shared_state++ % 10;
    return observe();
  }

  StepResult step(const StepValues& action) override {
    if (fault_ != Fault::kStepsAfterEnd) GATO_CHECK(state_.playing, "not playing");
    if (fault_ == Fault::kAcceptsBadActions) {
      if (action.size() != 2 || action[0].discrete.empty() || action[1].continuous.empty()) return {};
    } else {
      check_action(spec_, action);
    }
    float force = action[1].continuous[0];
    if (fault_ != Fault::kNoClipping) force = std::clamp(force, -1.0F, 1.0F);
    ++state_.steps;
    StepResult result;
    result.reward = (action[0].discrete[0] == state_.number ? 1.0 : 0.0) + 0.01 * static_cast<double>(force);
    if (fault_ == Fault::kSharedState) result.reward += 0.001 * (g_shared_state++ % 17);
    result.truncated = state_.steps >= (fault_ == Fault::kEarlyTruncation ? 3 : 5) && fault_ != Fault::kEndless;
    result.terminated = result.truncated && fault_ == Fault::kBothEnds;
    if (result.truncated || fault_ == Fault::kEarlySuccess) result.success = true;
    result.observation = observe();
    state_.playing = !result.done();
    return result;
  }

  std::optional<Image> frame() override {
    Image image;
    image.height = image.width = 2;
    image.pixels.resize(fault_ == Fault::kBadFrame ? 11 : 12);
    return image;
  }
  [[nodiscard]] std::optional<std::string> snapshot() const override {
    return cat("guess ", state_.number, state_.steps, state_.playing);
  }
  void restore(const std::string& snapshot) override {
    if (snapshot.size() != 9 || snapshot.substr(0, 6) != "guess ") throw DataError("not a snapshot");
    for (size_t i = 6; i < 9; ++i) {
      if (snapshot[i] < '0' || snapshot[i] > '9') throw DataError("not a snapshot");
    }
    state_.number = snapshot[6] - '0';
    state_.steps = fault_ == Fault::kBadSnapshot ? 0 : snapshot[7] - '0';
    state_.playing = snapshot[8] == '1';
  }

  [[nodiscard]] int32_t number() const { return state_.number; }

 private:
  struct State {
    int32_t number = 0;
    int steps = 0;
    bool playing = false;
  };

  [[nodiscard]] StepValues observe() const {
    StepValues observation(2);
    observation[0].discrete = {fault_ == Fault::kValueOutsideSpec ? 10 : state_.number};
    const float size = fault_ == Fault::kInfiniteObservation ? std::numeric_limits<float>::infinity() : 0.5F;
    observation[1].continuous = {size, 0.0F};
    return observation;
  }

  TaskSpec spec_;
  Fault fault_;
  State state_;
};

class GuessExpert final : public Expert {
 public:
  GuessExpert(const Guess& guess, Fault fault) : guess_(guess), fault_(fault) {}
  StepValues act() override {
    StepValues action(2);
    action[0].discrete = {fault_ == Fault::kPoorExpert ? 9 : guess_.number()};
    action[1].continuous = {fault_ == Fault::kExpertOutOfBounds ? 2.0F : 0.0F, 0.0F};
    return action;
  }

 private:
  const Guess& guess_;
  Fault fault_;
};

std::vector<std::string> violations_of(Fault fault) {
  TaskEntry entry;
  entry.id = "test/guess";
  entry.make = [=] { return std::make_unique<Guess>(fault); };
  entry.make_expert = [=](Environment& environment) {
    return std::make_unique<GuessExpert>(dynamic_cast<Guess&>(environment), fault);
  };
  return check_environment(entry);
}

TEST(ConformanceTest, AcceptsAGoodEnvironmentOfAUser) {
  const auto violations = violations_of(Fault::kNone);
  EXPECT_TRUE(violations.empty()) << join(violations, "\n");
}

TEST(ConformanceTest, NamesTheFault) {
  const std::vector<std::pair<Fault, std::string>> faults = {
      {Fault::kWrongId, "another id"},
      {Fault::kValueOutsideSpec, "outside the specification"},
      {Fault::kInfiniteObservation, "not finite"},
      {Fault::kNoReplay, "gave another episode"},
      {Fault::kSharedState, "gave another episode"},
      {Fault::kEndless, "goes on after its limit"},
      {Fault::kBothEnds, "both terminated and truncated"},
      {Fault::kEarlyTruncation, "before its limit"},
      {Fault::kEarlySuccess, "success is set before the end"},
      {Fault::kAcceptsBadActions, "was accepted"},
      {Fault::kNoClipping, "not clipped"},
      {Fault::kStepsAfterEnd, "a step after the end"},
      {Fault::kBadFrame, "11 bytes"},
      {Fault::kBadSnapshot, "after restore"},
      {Fault::kThrows, "out of paper"},
      {Fault::kPoorExpert, "does not exceed"},
      {Fault::kExpertOutOfBounds, "leaves the bounds"},
  };
  for (const auto& [fault, words] : faults) {
    const std::string found = join(violations_of(fault), "\n");
    EXPECT_NE(found.find(words), std::string::npos) << "expected '" << words << "', found:\n" << found;
  }
}

}  // namespace
}  // namespace gato::env
