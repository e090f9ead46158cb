#include "gato/env/rollout.h"

#include <gtest/gtest.h>

#include <cmath>

#include "env/test_tasks.h"
#include "gato/core/error.h"
#include "gato/core/signals.h"

namespace gato::env {
namespace {

constexpr const char* kWalk = "test/rollout_walk";
constexpr const char* kFailing = "test/rollout_failing";

class RolloutTest : public testing::Test {
 protected:
  void SetUp() override {
    test::register_walk(kWalk);
    test::register_walk(kFailing, 3);
  }
  void TearDown() override { clear_signal_flags(); }
};

using EnvironmentBatchTest = RolloutTest;

std::vector<StepValues> pushes(size_t count, float push) {
  std::vector<StepValues> actions(count, StepValues(1));
  for (StepValues& action : actions) action[0].continuous = {push};
  return actions;
}

TEST_F(EnvironmentBatchTest, GivesTheSameResultsWithAnyNumberOfThreads) {
  constexpr int kSize = 7;
  std::vector<std::vector<double>> rewards;
  for (const int threads : {1, 2, 5, 16}) {
    const auto batch = make_environment_batch(kWalk, kSize, threads);
    std::vector<int> slots;
    for (int slot = 0; slot < kSize; ++slot) {
      static_cast<void>(batch->reset(slot, static_cast<uint64_t>(slot)));
      slots.push_back(slot);
    }
    std::vector<double> seen;
    for (int step = 0; step < test::Walk::kSteps; ++step) {
      batch->start(slots, pushes(slots.size(), 0.5F));
      for (const StepResult& result : batch->wait()) seen.push_back(result.reward);
    }
    rewards.push_back(seen);
  }
  EXPECT_EQ(rewards[0].size(), static_cast<size_t>(kSize * test::Walk::kSteps));
  for (const auto& other : rewards) EXPECT_EQ(other, rewards[0]);
}

TEST_F(EnvironmentBatchTest, StepsTheNamedSlotsOnly) {
  const auto batch = make_environment_batch(kWalk, 3, 2);
  for (int slot = 0; slot < 3; ++slot) static_cast<void>(batch->reset(slot, 5));
  const std::vector<int> two = {2, 0};
  batch->start(two, pushes(2, 1.0F));
  const auto first = batch->wait();
  ASSERT_EQ(first.size(), 2u);
  const std::vector<int> one = {1};
  batch->start(one, pushes(1, 1.0F));
  EXPECT_EQ(batch->wait()[0].observation, first[0].observation);
}

TEST_F(EnvironmentBatchTest, RethrowsWhatAStepThrew) {
  const auto batch = make_environment_batch(kFailing, 4, 3);
  const std::vector<int> slots = {0, 1, 2, 3};
  for (const int slot : slots) static_cast<void>(batch->reset(slot, 0));
  for (int step = 0; step < 3; ++step) {
    batch->start(slots, pushes(4, 0));
    static_cast<void>(batch->wait());
  }
  batch->start(slots, pushes(4, 0));
  EXPECT_THROW(static_cast<void>(batch->wait()), DataError);
  static_cast<void>(batch->reset(0, 0));  // usable again
  const std::vector<int> first = {0};
  batch->start(first, pushes(1, 0));
  EXPECT_EQ(batch->wait().size(), 1u);
}

TEST_F(EnvironmentBatchTest, RefusesMisuse) {
  const auto batch = make_environment_batch(kWalk, 2, 1);
  const std::vector<int> first = {0}, twice = {0, 0}, outside = {2};
  EXPECT_THROW(batch->start(first, pushes(1, 0)), ContractError) << "not reset";
  static_cast<void>(batch->reset(0, 0));
  EXPECT_THROW(static_cast<void>(batch->wait()), ContractError) << "not started";
  EXPECT_THROW(batch->start(twice, pushes(2, 0)), ContractError);
  EXPECT_THROW(batch->start(outside, pushes(1, 0)), ContractError);
  EXPECT_THROW(batch->start(first, pushes(2, 0)), ContractError);
  batch->start(first, pushes(1, 0));
  EXPECT_THROW(batch->start(first, pushes(1, 0)), ContractError) << "started twice";
  EXPECT_THROW(static_cast<void>(batch->reset(1, 0)), ContractError) << "between start and wait";
  static_cast<void>(batch->wait());
  for (int step = 1; step < test::Walk::kSteps; ++step) {
    batch->start(first, pushes(1, 0));
    static_cast<void>(batch->wait());
  }
  EXPECT_THROW(batch->start(first, pushes(1, 0)), ContractError) << "the episode is over";
  EXPECT_THROW(static_cast<void>(make_environment_batch(kWalk, 0)), ConfigError);
  EXPECT_THROW(static_cast<void>(make_environment_batch("test/unknown", 1)), ConfigError);
}

TEST_F(EnvironmentBatchTest, MayBeDroppedWhileStepping) {
  const auto batch = make_environment_batch(kWalk, 8, 4);
  std::vector<int> slots;
  for (int slot = 0; slot < 8; ++slot) {
    static_cast<void>(batch->reset(slot, 0));
    slots.push_back(slot);
  }
  batch->start(slots, pushes(8, 0));
}

std::vector<RolloutResult> random_rollouts(const std::string& task, int size, const std::vector<uint64_t>& seeds,
                                           RolloutOptions options = {}) {
  const auto batch = make_environment_batch(task, size, 2);
  const auto policy = make_random_policy(batch->spec());
  options.seeds = seeds;
  return roll_out(*batch, *policy, options);
}

TEST_F(RolloutTest, DoesNotDependOnTheSizeOfTheBatch) {
  const auto seeds = seeds_for(SeedUse::kEvaluation, 0, "grid/go_to", 13);
  const auto alone = random_rollouts("grid/go_to", 1, seeds);
  ASSERT_EQ(alone.size(), seeds.size());
  for (size_t i = 0; i < seeds.size(); ++i) EXPECT_EQ(alone[i].seed, seeds[i]);
  for (const int size : {2, 5, 13, 20}) EXPECT_EQ(random_rollouts("grid/go_to", size, seeds), alone) << size;
}

TEST_F(RolloutTest, RandomPolicyAndRandomReferenceAreTheSame) {
  for (const char* task : {"grid/pick_up", "pictures/question", kWalk}) {
    const auto seeds = seeds_for(SeedUse::kReference, 3, task, 9);
    EXPECT_EQ(random_rollouts(task, 4, seeds), roll_out_reference(task, ReferenceAgent::kRandom, seeds)) << task;
  }
}

TEST_F(RolloutTest, ExpertAnswersExactly) {
  for (const char* task : {"pictures/caption", "pictures/question_heldout"}) {
    const auto results = roll_out_reference(task, ReferenceAgent::kExpert, seeds_for(SeedUse::kReference, 0, task, 20));
    for (const RolloutResult& result : results) {
      EXPECT_EQ(result.exact_match, std::optional(true));
      EXPECT_EQ(result.success, std::optional(true));
      EXPECT_EQ(result.answer, result.reference);
      EXPECT_FALSE(result.answer.empty());
      EXPECT_EQ(result.length, 1);
      EXPECT_DOUBLE_EQ(result.episode_return, 1);
    }
  }
}

TEST_F(RolloutTest, WrongAnswersAreToldFromRightOnes) {
  const auto results = random_rollouts("pictures/caption", 3, {1, 2, 3, 4});
  for (const RolloutResult& result : results) {
    EXPECT_EQ(result.exact_match, std::optional(false));
    EXPECT_EQ(result.success, std::optional(false));
    EXPECT_NE(result.answer, result.reference);
    EXPECT_DOUBLE_EQ(result.episode_return, 0);
  }
}

TEST_F(RolloutTest, KeepsFramesOfTheFirstEpisodes) {
  RolloutOptions options;
  options.record_frames = 2;
  options.frame_stride = 10;
  const auto results = random_rollouts("game/catch", 2, {1, 2, 3}, options);
  EXPECT_EQ(results[0].frames.size(), 9u);  // start, 10, 20, ... 70, end at 75
  EXPECT_EQ(results[1].frames.size(), 9u);
  EXPECT_TRUE(results[2].frames.empty());
  EXPECT_EQ(random_rollouts("game/catch", 1, {1, 2, 3}, options), results);
}

TEST_F(RolloutTest, ReportsProgressAndStops) {
  RolloutOptions options;
  std::vector<int64_t> seen;
  options.on_progress = [&](int64_t done) { seen.push_back(done); };
  static_cast<void>(random_rollouts(kWalk, 2, {1, 2, 3}, options));
  EXPECT_EQ(seen, (std::vector<int64_t>{1, 2, 3}));
  options.on_progress = [](int64_t) { request_stop(); };
  EXPECT_THROW(static_cast<void>(random_rollouts(kWalk, 1, {1, 2, 3}, options)), Interrupted);
  EXPECT_THROW(static_cast<void>(roll_out_reference(kWalk, ReferenceAgent::kExpert, {1, 2})), Interrupted);
}

TEST_F(RolloutTest, NothingToPlayIsNoError) {
  EXPECT_TRUE(random_rollouts(kWalk, 2, {}).empty());
  EXPECT_TRUE(roll_out_reference(kWalk, ReferenceAgent::kExpert, {}).empty());
}

TEST_F(RolloutTest, ExpertReferenceNeedsAnExpert) {
  test::register_walk("test/rollout_no_expert", test::Walk::kSteps, false);
  EXPECT_THROW(static_cast<void>(roll_out_reference("test/rollout_no_expert", ReferenceAgent::kExpert, {1})),
               ConfigError);
  EXPECT_EQ(roll_out_reference("test/rollout_no_expert", ReferenceAgent::kRandom, {1}).size(), 1u);
}

TEST_F(RolloutTest, AFailingEnvironmentEndsTheRollout) {
  EXPECT_THROW(static_cast<void>(random_rollouts(kFailing, 2, {1, 2})), DataError);
  EXPECT_THROW(static_cast<void>(roll_out_reference(kFailing, ReferenceAgent::kExpert, {1, 2})), DataError);
}

TEST(ReturnRecordTest, IsMeanAndStandardError) {
  std::vector<RolloutResult> results(4);
  const std::vector<double> returns = {1, 2, 3, 6};
  for (size_t i = 0; i < 4; ++i) results[i].episode_return = returns[i];
  const episode::ReturnRecord record = return_record(results);
  EXPECT_EQ(record.episodes, 4);
  EXPECT_DOUBLE_EQ(record.mean, 3);
  EXPECT_NEAR(record.standard_error, std::sqrt(14.0 / 3 / 4), 1e-12);
  EXPECT_EQ(return_record({}).episodes, 0);
  results.resize(1);
  EXPECT_DOUBLE_EQ(return_record(results).standard_error, 0);
}

}  // namespace
}  // namespace gato::env
