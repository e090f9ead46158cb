#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "env/test_tasks.h"
#include "gato/core/error.h"
#include "gato/env/collect.h"

namespace gato::env {
namespace {

using episode::Episode;

/// The episode, which must not fail.
Episode recorded(Environment& environment, Expert& expert, const ActionNoise& noise, uint64_t seed,
                 const std::string& id) {
  std::string failure;
  std::optional<Episode> episode = record_episode(environment, expert, noise, seed, id, failure);
  EXPECT_EQ(failure, "");
  return episode.value();
}

struct Place {
  std::unique_ptr<Environment> environment;
  std::unique_ptr<Expert> expert;
};

Place make_place(const std::string& task) {
  Place place;
  place.environment = make_environment(task);
  place.expert = find_task(task).make_expert(*place.environment);
  return place;
}

Episode record(const std::string& task, const ActionNoise& noise, uint64_t seed) {
  const Place place = make_place(task);
  Episode episode = recorded(*place.environment, *place.expert, noise, seed, "an id");
  EXPECT_NO_THROW(check_episode(place.environment->spec(), episode));
  return episode;
}

ActionNoise noise_of(std::vector<double> levels) {
  ActionNoise noise;
  noise.levels = std::move(levels);
  return noise;
}

class RecordTest : public testing::TestWithParam<std::string> {};

/// Plays the executed actions again and compares observations, labels and rewards with what was recorded.
void check_by_replay(const std::string& task, const Episode& episode) {
  const Place place = make_place(task);
  const TaskSpec& spec = place.environment->spec();
  StepValues observation = place.environment->reset(episode.seed);
  place.expert->begin_episode();
  for (int64_t step = 0; step < episode.num_steps; ++step) {
    for (size_t i = 0; i < spec.observation.size(); ++i) {
      ASSERT_EQ(value_at(episode.observation[i], spec.observation[i], step), observation[i]) << step;
    }
    ASSERT_EQ(value_at(episode.label[0], spec.action[0], step), place.expert->act()[0]) << step;
    const StepResult result = place.environment->step({value_at(episode.action[0], spec.action[0], step)});
    EXPECT_FLOAT_EQ(episode.reward[static_cast<size_t>(step)], static_cast<float>(result.reward));
    EXPECT_EQ(result.done(), step + 1 == episode.num_steps);
    observation = result.observation;
  }
}

TEST_P(RecordTest, LabelsAreTheExpertsActionsInTheStatesThatWereMet) {
  int disturbed = 0;
  for (uint64_t seed = 0; seed < 5; ++seed) {
    const Episode episode = record(GetParam(), noise_of({0.8}), seed);
    ASSERT_EQ(episode.label.size(), episode.action.size());
    disturbed += episode.label != episode.action ? 1 : 0;
    check_by_replay(GetParam(), episode);
  }
  EXPECT_GE(disturbed, 3);
}

TEST_P(RecordTest, IsAFunctionOfItsSeed) {
  EXPECT_EQ(record(GetParam(), noise_of({0, 0.4}), 8), record(GetParam(), noise_of({0, 0.4}), 8));
  EXPECT_NE(record(GetParam(), noise_of({0.4}), 8), record(GetParam(), noise_of({0.4}), 9));
}

TEST_P(RecordTest, WithoutNoiseTheActionsAreTheLabels) {
  const Episode episode = record(GetParam(), noise_of({0}), 5);
  EXPECT_TRUE(episode.label.empty());
  EXPECT_EQ(episode.id, "an id");
  EXPECT_EQ(episode.source_agent, "expert");
  EXPECT_EQ(episode.seed, 5u);
}

std::string task_name(const testing::TestParamInfo<std::string>& task) {
  return task.param.substr(task.param.find('/') + 1);
}
INSTANTIATE_TEST_SUITE_P(Tasks, RecordTest, testing::Values("grid/pick_up", "game/catch", "control/reacher"),
                         task_name);

TEST(RecordNoiseTest, OneLevelIsDrawnPerEpisode) {
  test::register_walk("test/record_levels");
  const ActionNoise noise = noise_of({0.0, 0.5});
  int quiet = 0;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const Episode episode = record("test/record_levels", noise, seed);
    ASSERT_FALSE(episode.label.empty()) << "labels are there whatever level was drawn";
    quiet += episode.label == episode.action ? 1 : 0;
  }
  EXPECT_NEAR(quiet, 100, 30);
}

/// Stands still: its pushes are zero, so executed actions are the noise.
class ZeroExpert final : public Expert {
 public:
  StepValues act() override {
    StepValues action(1);
    action[0].continuous = {1.0F};  // the middle of the bounds
    return action;
  }
};

TEST(RecordNoiseTest, ContinuousNoiseHasTheStatedSizeAndCorrelation) {
  test::Walk walk("test/noise");
  ZeroExpert expert;
  const double level = 0.1, half_range = 3;
  double squares = 0, products = 0;
  int64_t count = 0, pairs = 0;
  for (uint64_t seed = 0; seed < 3000; ++seed) {
    const Episode episode = recorded(walk, expert, noise_of({level}), seed, "x");
    const std::vector<float>& pushes = episode.action[0].continuous;
    // The process starts at zero and needs some steps to reach its stationary spread.
    for (size_t i = 5; i < pushes.size(); ++i, ++count) squares += std::pow(static_cast<double>(pushes[i]) - 1, 2);
    for (size_t i = 6; i < pushes.size(); ++i, ++pairs) {
      products += (static_cast<double>(pushes[i]) - 1) * (static_cast<double>(pushes[i - 1]) - 1);
    }
  }
  const double variance = squares / static_cast<double>(count);
  EXPECT_NEAR(std::sqrt(variance), level * half_range, 0.02);
  EXPECT_NEAR(products / static_cast<double>(pairs) / variance, 0.8, 0.04);
}

TEST(RecordNoiseTest, ExecutedActionsStayInTheirBounds) {
  test::Walk walk("test/noise");
  ZeroExpert expert;
  float lowest = 0, highest = 0;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const Episode episode = recorded(walk, expert, noise_of({1.0}), seed, "x");
    for (const float push : episode.action[0].continuous) {
      lowest = std::min(lowest, push);
      highest = std::max(highest, push);
    }
  }
  EXPECT_EQ(lowest, -2.0F);
  EXPECT_EQ(highest, 4.0F);
}

TEST(RecordNoiseTest, DiscreteActionsAreReplacedWithHalfTheLevelsProbability) {
  int64_t replaced = 0, steps = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const Episode episode = record("game/catch", noise_of({0.8}), seed);
    for (size_t i = 0; i < episode.action[0].discrete.size(); ++i) {
      replaced += episode.action[0].discrete[i] != episode.label[0].discrete[i] ? 1 : 0;
    }
    steps += episode.num_steps;
  }
  // A random action equals the expert's in a third of the cases.
  EXPECT_NEAR(static_cast<double>(replaced) / static_cast<double>(steps), 0.4 * 2 / 3, 0.02);
}

TEST(RecordNoiseTest, TextIsNeverDisturbed) {
  const Episode episode = record("pictures/caption", noise_of({0.8}), 5);
  EXPECT_TRUE(episode.label.empty());
  EXPECT_EQ(episode.success, std::optional(true));
  EXPECT_TRUE(episode.terminated);
  EXPECT_FLOAT_EQ(episode.reward.at(0), 1.0F);
}

TEST(RecordNoiseTest, RefusesNonsense) {
  const Place place = make_place("game/catch");
  EXPECT_THROW(static_cast<void>(recorded(*place.environment, *place.expert, noise_of({}), 0, "x")), ContractError);
  ActionNoise noise;
  noise.correlation = 1;
  EXPECT_THROW(static_cast<void>(recorded(*place.environment, *place.expert, noise, 0, "x")), ContractError);
}

}  // namespace
}  // namespace gato::env
