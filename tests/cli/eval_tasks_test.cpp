#include <gtest/gtest.h>

#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/eval_verbs.h"
#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/text.h"
#include "gato/env/environment.h"

namespace gato::cli {
namespace {

/// What `gato-eval tasks ARGUMENTS` prints.
std::string listed(const std::string& arguments) {
  CLI::App app("gato-eval");
  const auto verb = add_tasks(app);
  app.parse("tasks " + arguments);
  std::ostringstream out;
  std::streambuf* const before = std::cout.rdbuf(out.rdbuf());
  try {
    EXPECT_EQ(verb(), 0);
  } catch (...) {
    std::cout.rdbuf(before);
    throw;
  }
  std::cout.rdbuf(before);
  return out.str();
}

TEST(EvalTasksTest, EveryRegisteredTaskIsListedOnce) {
  const std::string table = listed("");
  for (const std::string& id : env::task_ids()) {
    EXPECT_NE(table.find("\n  " + id + " "), std::string::npos) << id;
  }
  EXPECT_NE(table.find(cat("\n", env::task_ids().size(), " tasks;")), std::string::npos);
}

TEST(EvalTasksTest, JsonHasSpecificationAndReturns) {
  std::istringstream lines(listed("--json metaworld/reach-v3 control/point_mass metaworld/reach-v3"));
  std::vector<Json> tasks;
  for (std::string line; std::getline(lines, line);) tasks.push_back(parse_json(line, "tasks"));
  ASSERT_EQ(tasks.size(), 2u) << "each once, however often it matches";
  EXPECT_EQ(tasks[0].at("task"), "control/point_mass");
  EXPECT_EQ(tasks[0].at("family"), "");
  EXPECT_TRUE(tasks[0].at("has_expert").get<bool>());
  EXPECT_EQ(tasks[0].at("action").at(0).at("shape"), Json::array({2}));
  EXPECT_EQ(tasks[1].at("family"), "metaworld");
  EXPECT_EQ(tasks[1].at("action").at(0).at("low"), Json::array({-1}));
}

TEST(EvalTasksTest, ASuiteAndPatternsNarrowTheList) {
  const std::string demo = listed("--suite demo");
  EXPECT_NE(demo.find("grid/go_to "), std::string::npos);
  EXPECT_EQ(demo.find("metaworld/"), std::string::npos);
  const std::string both = listed("--suite demo control/*");
  EXPECT_EQ(both.find("grid/"), std::string::npos);
  EXPECT_NE(both.find("control/reacher"), std::string::npos);
  EXPECT_THROW(listed("--suite demo metaworld/*"), ConfigError);
  EXPECT_THROW(listed("nothing/*"), ConfigError);
  EXPECT_THROW(listed("--suite no-such-suite"), ConfigError);
}

TEST(EvalTasksTest, TasksWithoutAnExpertSaySo) {
  EXPECT_NE(listed("minigrid/Empty-8x8-v0").find("[no expert: unscored]"), std::string::npos);
}

}  // namespace
}  // namespace gato::cli
