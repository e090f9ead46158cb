#include "gato/episode/episode.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "episode/sample_data.h"
#include "gato/core/error.h"

namespace gato::episode {
namespace {

using sample::mixed_task;
using sample::random_episode;

TEST(EpisodeTest, RandomEpisodesAreGood) {
  const TaskSpec task = mixed_task();
  EXPECT_NO_THROW(check_episode(task, random_episode(task, 1, 5)));
  EXPECT_NO_THROW(check_episode(task, random_episode(task, 2, 1, {.reward = false, .label = true})));
}

TEST(EpisodeTest, InfinitiesAreAllowed) {
  const TaskSpec task = mixed_task();
  Episode episode = random_episode(task, 1, 2);
  episode.observation[0].continuous[3] = HUGE_VALF;
  EXPECT_NO_THROW(check_episode(task, episode));
}

struct Mistake {
  const char* name;
  const char* expected;  // Part of the message.
  std::function<void(Episode&)> make;
};

class EpisodeMistakeTest : public testing::TestWithParam<Mistake> {};

TEST_P(EpisodeMistakeTest, IsNamed) {
  const TaskSpec task = mixed_task();
  Episode episode = random_episode(task, 3, 4, {.reward = true, .label = true});
  GetParam().make(episode);
  const std::string message = sample::message_of<DataError>([&] { check_episode(task, episode); });
  EXPECT_NE(message.find(GetParam().expected), std::string::npos) << "message: " << message;
  EXPECT_NE(message.find("task 'sample/mixed', episode '"), std::string::npos) << "message: " << message;
}

const std::vector<Mistake> kMistakes = {
    {"NoId", "id is 1 to", [](Episode& e) { e.id = ""; }},
    {"IdNotUtf8", "valid UTF-8", [](Episode& e) { e.id = "\xc0"; }},
    {"AgentNotUtf8", "valid UTF-8", [](Episode& e) { e.source_agent = "\xc0"; }},
    {"NoSteps", "0 steps", [](Episode& e) { e.num_steps = 0; }},
    {"NegativeSteps", "-1 steps", [](Episode& e) { e.num_steps = -1; }},
    {"TooManySteps", "2147483648 steps", [](Episode& e) { e.num_steps = int64_t{1} << 31; }},
    {"MissingColumn", "4 observation columns", [](Episode& e) { e.observation.pop_back(); }},
    {"MissingAction", "2 action columns", [](Episode& e) { e.action.pop_back(); }},
    {"MissingLabel", "2 label columns", [](Episode& e) { e.label.pop_back(); }},
    {"ShortContinuous", "field 'velocity': 23 continuous values",
     [](Episode& e) { e.observation[0].continuous.pop_back(); }},
    {"LongDiscrete", "field 'inventory': 17 discrete values",
     [](Episode& e) { e.observation[4].discrete.push_back(0); }},
    {"ShortText", "field 'mission': 3 texts", [](Episode& e) { e.observation[1].text.pop_back(); }},
    {"ShortImages", "field 'camera': 3 images", [](Episode& e) { e.observation[2].images.pop_back(); }},
    {"OtherModality", "field 'mission': 1 continuous values", [](Episode& e) { e.observation[1].continuous = {0}; }},
    {"Nan", "NaN at step 1, element 2", [](Episode& e) { e.observation[0].continuous[8] = NAN; }},
    {"NanLabel", "label field 'torque': NaN", [](Episode& e) { e.label[1].continuous[8 - 1] = NAN; }},
    {"DiscreteTooLarge", "value 7 at step 2, element 0", [](Episode& e) { e.action[0].discrete[2] = 7; }},
    {"DiscreteNegative", "value -1 at step 0, element 1", [](Episode& e) { e.observation[4].discrete[1] = -1; }},
    {"InvalidUtf8", "invalid UTF-8 at step 2, byte 1", [](Episode& e) { e.action[2].text[2] = "a\x80"; }},
    {"ImageOfOtherSize", "image of 5 x 6 at step 1",
     [](Episode& e) { std::swap(e.observation[2].images[1].height, e.observation[2].images[1].width); }},
    {"ImageWithoutPixels", "not height x width x 3", [](Episode& e) { e.observation[3].images[0].pixels.pop_back(); }},
    {"EmptyImage", "is empty", [](Episode& e) { e.observation[3].images[0] = Image{}; }},
    {"ShortReward", "3 rewards", [](Episode& e) { e.reward.pop_back(); }},
    {"NanReward", "reward at step 2", [](Episode& e) { e.reward[2] = NAN; }},
};

INSTANTIATE_TEST_SUITE_P(All, EpisodeMistakeTest, testing::ValuesIn(kMistakes),
                         [](const testing::TestParamInfo<Mistake>& mistake) {
                           return std::string(mistake.param.name);
                         });

TEST(EpisodeTest, ValuesComeBackFromColumns) {
  const TaskSpec task = mixed_task();
  for (const FieldSpec& field : task.observation) {
    Rng rng(4);
    Column column;
    std::vector<FieldValue> values;
    for (int64_t step = 0; step < 5; ++step) {
      values.push_back(sample::random_value(rng, field));
      append_value(column, field, values.back());
    }
    for (int64_t step = 0; step < 5; ++step) {
      EXPECT_EQ(value_at(column, field, step), values[static_cast<size_t>(step)]) << field.name << ", step " << step;
    }
    EXPECT_THROW((void)value_at(column, field, 5), ContractError) << field.name;
    EXPECT_THROW((void)value_at(column, field, -1), ContractError) << field.name;
  }
}

TEST(EpisodeTest, ValuesOfTheWrongSizeAreRefused) {
  Column column;
  FieldValue value;
  value.discrete = {1, 2};
  EXPECT_THROW(append_value(column, sample::discrete_field("x", {3}, 4), value), ContractError);
  EXPECT_THROW(append_value(column, sample::continuous_field("x", {3}, 0, 1), value), ContractError);
}

TEST(EpisodeTest, ReturnIsTheSumOfRewards) {
  Episode episode;
  EXPECT_EQ(episode.total_return(), 0.0);
  episode.reward = {1.5f, -0.5f, 2.0f};
  EXPECT_EQ(episode.total_return(), 3.0);
}

// Computed with a separate implementation (FNV-1a, then MurmurHash3's finalizer); a change would move episodes between
// training and validation.
TEST(EpisodeTest, SplitHashIsFrozen) {
  EXPECT_EQ(split_hash(""), 0xefd01f60ba992926u);
  EXPECT_EQ(split_hash("control/cartpole/17"), 0x9eb8fa4b27f6d4abu);
  EXPECT_EQ(split_hash("\xc3\xa9"), 0x9d55ccb9ba86763bu);
}

TEST(EpisodeTest, ValidationTakesItsShare) {
  int in = 0;
  constexpr int kEpisodes = 20000;
  for (int i = 0; i < kEpisodes; ++i) in += in_validation(split_hash(cat("episode-", i)), 0.05) ? 1 : 0;
  EXPECT_NEAR(in, kEpisodes * 0.05, 5 * std::sqrt(kEpisodes * 0.05 * 0.95));
}

TEST(EpisodeTest, ValidationSharesAreNested) {
  for (int i = 0; i < 1000; ++i) {
    const uint64_t hash = split_hash(cat("episode-", i));
    EXPECT_FALSE(in_validation(hash, 0.0));
    EXPECT_TRUE(in_validation(hash, 1.0));
    EXPECT_TRUE(!in_validation(hash, 0.1) || in_validation(hash, 0.2));
  }
  EXPECT_FALSE(in_validation(~uint64_t{0}, 0.999999));
  EXPECT_TRUE(in_validation(~uint64_t{0}, 1.0));
  EXPECT_TRUE(in_validation(0, 1e-12));
}

}  // namespace
}  // namespace gato::episode
