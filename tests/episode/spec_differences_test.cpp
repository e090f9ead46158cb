#include <gtest/gtest.h>

#include "episode/sample_data.h"
#include "gato/episode/spec.h"

namespace gato::episode {
namespace {

using sample::continuous_field;
using sample::discrete_field;
using sample::image_field;

TaskSpec task() {
  TaskSpec made;
  made.id = "control/arm";
  made.observation = {continuous_field("state", {3}, -1, 1), image_field("camera", 16, 32)};
  made.action = {continuous_field("torque", {2}, -1, 1), discrete_field("grip", {}, 2)};
  return made;
}

std::string differences(const TaskSpec& environment, const TaskSpec& trained = task()) {
  return join(spec_differences(trained, environment), "\n");
}

TEST(SpecDifferencesTest, WhatOnlyInformsIsNotCompared) {
  EXPECT_EQ(differences(task()), "");
  TaskSpec other = task();
  other.description = "Another sentence.";
  other.observation[0].low = {-5};
  other.observation[0].unit = "m";
  other.observation[1].codec = ImageCodec::kJpeg;
  other.expert = {10, 1, 5};
  std::swap(other.observation[0], other.observation[1]);  // Tokens follow the canonical order.
  EXPECT_EQ(differences(other), "");
}

TEST(SpecDifferencesTest, EachDifferenceIsNamed) {
  TaskSpec other = task();
  other.observation[0].shape = {4};
  other.action[1].num_values = 3;
  other.action[0].high = {1, 2};
  other.action[0].low = {-1, -1};
  other.observation.push_back(sample::text_field("mission"));
  const std::vector<std::string> found = spec_differences(task(), other);
  ASSERT_EQ(found.size(), 4u) << join(found, "\n");
  EXPECT_EQ(found[0], "observation field 'state': trained with shape [3], the environment has [4]");
  EXPECT_EQ(found[1], "observation field 'mission': only the environment has it");
  EXPECT_NE(found[2].find("element 1 was trained with bounds [-1, 1], the environment has [-1, 2]"), std::string::npos);
  EXPECT_EQ(found[3], "action field 'grip': trained with 2 values, the environment has 3");
}

TEST(SpecDifferencesTest, MissingFieldsModalitiesAndSizes) {
  TaskSpec other = task();
  other.observation.erase(other.observation.begin());
  other.action[0] = discrete_field("torque", {2}, 4);
  EXPECT_NE(differences(other).find("observation field 'state': the environment does not have it"), std::string::npos);
  EXPECT_NE(differences(other).find("action field 'torque': trained as continuous, the environment has discrete"),
            std::string::npos);
  TaskSpec any = task();
  any.observation[1].shape = {0, 0, 3};
  EXPECT_EQ(differences(task(), any), "") << "trained on images of any size";
  EXPECT_NE(differences(any), "") << "trained on one size only";
}

}  // namespace
}  // namespace gato::episode
