#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <thread>

#include "env/test_tasks.h"
#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/env/environment.h"

namespace gato::env {
namespace {

template <class Body>
std::string config_error_of(Body body) {
  try {
    body();
  } catch (const ConfigError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(RegistryTest, KnowsTheNativeTasks) {
  const std::vector<std::string> ids = task_ids();
  EXPECT_TRUE(std::is_sorted(ids.begin(), ids.end()));
  for (const char* id : {"control/reacher", "grid/go_to", "grid/pick_up", "game/catch", "pictures/caption",
                         "pictures/question", "pictures/caption_heldout", "pictures/question_heldout"}) {
    EXPECT_TRUE(std::find(ids.begin(), ids.end(), id) != ids.end()) << id;
    EXPECT_EQ(make_environment(id)->spec().id, id);
  }
}

TEST(RegistryTest, MatchesPatterns) {
  EXPECT_EQ(match_tasks("grid/*"),
            (std::vector<std::string>{"grid/go_to", "grid/open", "grid/pick_up", "grid/put_next", "grid/unlock"}));
  EXPECT_EQ(match_tasks("pictures/*_heldout").size(), 2u);
  EXPECT_EQ(match_tasks("game/catch"), std::vector<std::string>{"game/catch"});
}

TEST(RegistryTest, NamesTheNearestTask) {
  EXPECT_NE(config_error_of([] { static_cast<void>(find_task("grid/goto")); }).find("Did you mean 'grid/go_to'?"),
            std::string::npos);
  EXPECT_NE(config_error_of([] { static_cast<void>(match_tasks("gird/go_to")); }).find("'grid/go_to'"),
            std::string::npos);
  EXPECT_NE(config_error_of([] { static_cast<void>(make_environment("nothing of the kind")); }).find("control/*, "),
            std::string::npos);
}

TEST(RegistryTest, RefusesBadEntries) {
  const auto make = [] { return std::make_unique<test::Walk>("test/refused"); };
  for (const char* id : {"", "walk", "/walk", "walk/"}) {
    EXPECT_NE(config_error_of([&] {
                register_task({id, make, nullptr});
              }).find("domain/name"),
              std::string::npos)
        << id;
  }
  EXPECT_NE(config_error_of([&] {
              register_task({"test/refused", nullptr, nullptr});
            }).find("make function"),
            std::string::npos);
  EXPECT_NE(config_error_of([&] {
              register_task({"grid/go_to", make, nullptr});
            }).find("registered already"),
            std::string::npos);
}

TEST(RegistryTest, TakesTasksFromSeveralThreads) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([i] { test::register_walk(cat("test/registered_", i)); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(match_tasks("test/registered_*").size(), 4u);
}

TaskSpec mixed_spec() {
  TaskSpec spec;
  spec.id = "test/mixed";
  spec.action = {continuous_field("force", 3, -2, 1), discrete_field("button", 5, {2}), text_field("words")};
  return spec;
}

TEST(RandomActionTest, StaysInsideTheSpecification) {
  const TaskSpec spec = mixed_spec();
  Rng random(1);
  float lowest = 9, highest = -9;
  std::set<int32_t> buttons;
  std::set<size_t> lengths;
  for (int i = 0; i < 500; ++i) {
    const StepValues action = random_action(spec, random);
    ASSERT_NO_THROW(check_action(spec, action));
    for (const float value : action[0].continuous) {
      lowest = std::min(lowest, value);
      highest = std::max(highest, value);
    }
    buttons.insert(action[1].discrete.begin(), action[1].discrete.end());
    lengths.insert(action[2].text.size());
    for (const char letter : action[2].text) EXPECT_TRUE(letter >= ' ' && letter <= '~');
  }
  EXPECT_GE(lowest, -2);
  EXPECT_LE(highest, 1);
  EXPECT_LT(lowest, -1.9F);
  EXPECT_GT(highest, 0.9F);
  EXPECT_EQ(buttons, (std::set<int32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(lengths, (std::set<size_t>{1, 2, 3, 4, 5, 6, 7, 8}));
}

TEST(CheckActionTest, NamesTaskAndField) {
  const TaskSpec spec = mixed_spec();
  Rng random(1);
  const StepValues good = random_action(spec, random);
  const auto error_of = [&](StepValues action) -> std::string {
    try {
      check_action(spec, action);
    } catch (const DataError& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(error_of(good), "");
  StepValues bad = good;
  bad[1].discrete[1] = 5;
  EXPECT_EQ(error_of(bad), "Task test/mixed, action field 'button': element 1 is 5, expected 0 to 4.");
  bad = good;
  bad[0].continuous.pop_back();
  EXPECT_EQ(error_of(bad), "Task test/mixed, action field 'force': 2 numbers given, 3 expected.");
  bad = good;
  bad[2].text = "ok\xff";
  EXPECT_EQ(error_of(bad), "Task test/mixed, action field 'words': invalid UTF-8 at byte 2.");
  bad = good;
  bad.pop_back();
  EXPECT_EQ(error_of(bad), "Task test/mixed: an action has 3 fields, 2 given.");
}

TEST(EnvironmentTest, RestoreNeedsSnapshots) {
  test::Walk walk("test/walk");
  EXPECT_FALSE(walk.snapshot());
  EXPECT_THROW(walk.restore(""), ContractError);
}

}  // namespace
}  // namespace gato::env
