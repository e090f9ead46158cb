#include "eval/logged_batch.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace gato::eval {
namespace {

const std::vector<uint64_t> kSeeds = {11, 12, 13, 14, 15, 16, 17};

/// Rollouts of a random policy, which does the same in an episode whatever slot it is in.
std::vector<env::RolloutResult> play(LoggedBatch& batch) {
  const auto policy = env::make_random_policy(batch.spec());
  env::RolloutOptions options;
  options.seeds = kSeeds;
  return env::roll_out(batch, *policy, options);
}

LoggedBatch logged(const std::string& task, int slots, int64_t first) {
  return {env::make_environment_batch(task, slots), first};
}

TEST(LoggedBatchTest, KeepsTheFirstTheBestAndTheWorstHoweverManySlots) {
  for (const int slots : {1, 3, 7}) {
    LoggedBatch batch = logged("control/point_mass", slots, 2);
    const auto results = play(batch);
    const auto less = [](const auto& a, const auto& b) { return a.episode_return < b.episode_return; };
    const auto best = std::max_element(results.begin(), results.end(), less);
    const auto worst = std::min_element(results.begin(), results.end(), less);
    ASSERT_TRUE(batch.best() && batch.worst());
    EXPECT_EQ(batch.best()->seed, best->seed) << slots;
    EXPECT_EQ(batch.best()->episode_return, best->episode_return);
    EXPECT_EQ(static_cast<int64_t>(batch.best()->actions.size()), best->length);
    EXPECT_EQ(batch.worst()->seed, worst->seed);
    ASSERT_EQ(batch.first().size(), 2u);
    EXPECT_EQ(batch.first()[0].seed, kSeeds[0]);
    EXPECT_EQ(batch.first()[1].seed, kSeeds[1]);
  }
}

TEST(LoggedBatchTest, PlaysAnEpisodeAgainForItsFrames) {
  LoggedBatch batch = logged("grid/go_to", 2, 1);
  play(batch);
  const LoggedEpisode episode = batch.first().at(0);
  const auto steps = static_cast<int64_t>(episode.actions.size());
  EXPECT_EQ(static_cast<int64_t>(batch.frames_of(episode, 1000, 1000).size()), steps + 1);
  const auto few = batch.frames_of(episode, 5, 40);
  ASSERT_GE(few.size(), 2u);
  EXPECT_LE(few.size(), 5u);
  for (const env::Image& frame : few) EXPECT_EQ(std::max(frame.width, frame.height), 40);
  EXPECT_EQ(few.back(), batch.frames_of(episode, 2, 40).back()) << "the last frame is always there";
  EXPECT_FALSE(episode.question.empty()) << "the mission";

  LoggedEpisode other = episode;
  other.episode_return += 1;
  EXPECT_TRUE(batch.frames_of(other, 5, 40).empty()) << "it did not come out the same";
  other = episode;
  other.actions.pop_back();
  EXPECT_TRUE(batch.frames_of(other, 5, 40).empty()) << "it did not end";
}

TEST(LoggedBatchTest, OfEqualEpisodesTheFirstIsBestAndWorst) {
  LoggedBatch batch = logged("pictures/question", 3, 4);
  play(batch);  // random letters are never right
  EXPECT_EQ(batch.best()->seed, kSeeds[0]);
  EXPECT_EQ(batch.worst()->seed, kSeeds[0]);
  ASSERT_EQ(batch.first().size(), 4u);
  EXPECT_EQ(batch.frames_of(batch.first()[3], 60, 500).size(), 1u) << "the picture does not change by the answer";
  EXPECT_NE(batch.first()[0].question.find('?'), std::string::npos) << batch.first()[0].question;
}

}  // namespace
}  // namespace gato::eval
