#include "eval/joined_play.h"

#include <gtest/gtest.h>

#include "gato/core/error.h"

namespace gato::eval {
namespace {

using episode::StepValues;

/// Acts at random for several tasks, and notes which slots act together.
class NotingPolicy : public env::Policy {
 public:
  NotingPolicy(const std::vector<std::string>& tasks, int slots_each) : slots_each_(slots_each) {
    for (const std::string& task : tasks) {
      policies_.push_back(env::make_random_policy(env::make_environment(task)->spec()));
    }
  }
  void begin_episode(int slot, uint64_t seed) override {
    policies_[static_cast<size_t>(slot / slots_each_)]->begin_episode(slot % slots_each_, seed);
  }
  std::vector<StepValues> act(std::span<const int> slots, std::span<const StepValues> observations) override {
    if (fails_at-- == 0) throw DataError("the policy failed");
    calls.emplace_back(slots.begin(), slots.end());
    std::vector<StepValues> actions;
    for (size_t i = 0; i < slots.size(); ++i) {
      const std::vector<int> slot = {slots[i] % slots_each_};
      auto action = policies_[static_cast<size_t>(slots[i] / slots_each_)]->act(slot, observations.subspan(i, 1));
      actions.push_back(std::move(action[0]));
    }
    return actions;
  }
  std::vector<std::vector<int>> calls;
  int64_t fails_at = -1;

 private:
  int slots_each_;
  std::vector<std::unique_ptr<env::Policy>> policies_;
};

const std::vector<std::string> kTasks = {"control/point_mass", "grid/go_to"};

std::vector<JoinedTask> tasks_with(const std::vector<uint64_t>& seeds) {
  std::vector<JoinedTask> tasks;
  for (const std::string& task : kTasks) {
    tasks.push_back({env::make_environment_batch(task, 2), {}});
    tasks.back().options.seeds = seeds;
  }
  return tasks;
}

TEST(JoinedPlayTest, GivesWhatEachTaskGivesAlone) {
  const std::vector<uint64_t> seeds = {1, 2, 3, 4, 5};
  auto tasks = tasks_with(seeds);
  NotingPolicy together(kTasks, 2);
  const auto results = play_joined(tasks, together);
  for (size_t t = 0; t < kTasks.size(); ++t) {
    const auto batch = env::make_environment_batch(kTasks[t], 2);
    NotingPolicy alone({kTasks[t]}, 2);
    env::RolloutOptions options;
    options.seeds = seeds;
    EXPECT_EQ(results[t], env::roll_out(*batch, alone, options)) << kTasks[t];
  }
}

TEST(JoinedPlayTest, WhichSlotsActTogetherIsTheSameEveryTime) {
  std::vector<std::vector<std::vector<int>>> calls;
  for (int time = 0; time < 3; ++time) {
    auto tasks = tasks_with({1, 2, 3, 4, 5});
    NotingPolicy policy(kTasks, 2);
    static_cast<void>(play_joined(tasks, policy));
    EXPECT_EQ(policy.calls.at(0), (std::vector<int>{0, 1, 2, 3})) << "all at first";
    calls.push_back(policy.calls);
  }
  EXPECT_EQ(calls[0], calls[1]);
  EXPECT_EQ(calls[0], calls[2]);
}

TEST(JoinedPlayTest, AFailureEndsAllTasks) {
  auto tasks = tasks_with({1, 2, 3});
  NotingPolicy policy(kTasks, 2);
  policy.fails_at = 4;
  EXPECT_THROW(static_cast<void>(play_joined(tasks, policy)), DataError);
  tasks = tasks_with({1, 2, 3});
  tasks[1].options.on_progress = [](int64_t) { throw ConfigError("not this one"); };
  policy.fails_at = -1;
  EXPECT_THROW(static_cast<void>(play_joined(tasks, policy)), ConfigError);
}

}  // namespace
}  // namespace gato::eval
