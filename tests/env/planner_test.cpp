#include "gato/env/planner.h"

#include <gtest/gtest.h>

#include "gato/core/error.h"
#include "gato/env/fields.h"

namespace gato::env {
namespace {

PlannerOptions small_planner() {
  return {.horizon = 60, .knots = 6, .samples = 12, .rounds = 2, .replan_every = 2, .noise = 0.6};
}

/// Actions of `steps` steps and what they earned.
struct Played {
  std::vector<StepValues> actions;
  double earned = 0;
  bool operator==(const Played&) const = default;
};

Played play(const TaskEntry& entry, const PlannerOptions& options, int steps, uint64_t seed = 5) {
  const std::unique_ptr<Environment> environment = entry.make();
  const std::unique_ptr<Expert> planner = make_planner(*environment, entry.make, options);
  Played played;
  environment->reset(seed);
  planner->begin_episode();
  for (int i = 0; i < steps; ++i) {
    played.actions.push_back(planner->act());
    played.earned += environment->step(played.actions.back()).reward;
  }
  return played;
}

TEST(PlannerTest, ActionsDoNotDependOnThreads) {
  const TaskEntry& entry = find_task("mujoco/cartpole_swingup");
  for (const double temperature : {0.0, 0.3}) {
    PlannerOptions options = small_planner();
    options.temperature = temperature;
    const Played alone = play(entry, options, 7);
    for (const int threads : {2, 3, 64}) {
      options.threads = threads;
      EXPECT_EQ(play(entry, options, 7), alone) << threads << " threads";
    }
    options.seed = 1;
    EXPECT_NE(play(entry, options, 7), alone);
  }
}

TEST(PlannerTest, ANewEpisodeForgetsThePlan) {
  const TaskEntry& entry = find_task("mujoco/cartpole_swingup");
  const std::unique_ptr<Environment> environment = entry.make();
  const std::unique_ptr<Expert> planner = make_planner(*environment, entry.make, small_planner());
  std::vector<StepValues> firsts;
  for (int episode = 0; episode < 2; ++episode) {
    environment->reset(9);
    planner->begin_episode();
    firsts.push_back(planner->act());
    for (int i = 0; i < 3; ++i) static_cast<void>(environment->step(planner->act()));
  }
  EXPECT_EQ(firsts[0], firsts[1]);
}

TEST(PlannerTest, LooksAtTheEnvironmentOnly) {
  const TaskEntry& entry = find_task("mujoco/cartpole_swingup");
  const std::unique_ptr<Environment> environment = entry.make();
  const std::unique_ptr<Expert> planner = make_planner(*environment, entry.make, small_planner());
  environment->reset(9);
  const std::optional<std::string> before = environment->snapshot();
  static_cast<void>(planner->act());
  EXPECT_EQ(environment->snapshot(), before);
}

TEST(PlannerTest, SwingsThePoleUp) {
  const Played played = play(find_task("mujoco/cartpole_swingup"), small_planner(), 250);
  EXPECT_GT(played.earned, 80);  // a pole that hangs earns nothing, one that stands 1 a step
}

TEST(PlannerTest, PlansTasksWithSeveralActionsAndAScoreOfItsOwn) {
  const TaskEntry& entry = find_task("control/point_mass");
  PlannerOptions options = small_planner();
  options.horizon = 20;
  options.score = [](const Environment&, const StepResult& result) {
    return -std::abs(static_cast<double>(result.observation[0].continuous[0]) - 1);  // x towards 1
  };
  const std::unique_ptr<Environment> environment = entry.make();
  const std::unique_ptr<Expert> planner = make_planner(*environment, entry.make, options);
  StepValues seen = environment->reset(3);
  planner->begin_episode();
  for (int i = 0; i < 100; ++i) seen = environment->step(planner->act()).observation;
  EXPECT_NEAR(seen[0].continuous[0], 1, 0.15);
}

TEST(PlannerTest, WhatCannotBePlannedIsRefused) {
  const TaskEntry& entry = find_task("mujoco/cartpole_swingup");
  const std::unique_ptr<Environment> environment = entry.make();
  const auto reject = [&](auto change) {
    PlannerOptions options = small_planner();
    change(options);
    EXPECT_THROW(static_cast<void>(make_planner(*environment, entry.make, options)), ConfigError);
  };
  reject([](PlannerOptions& options) { options.horizon = 1; });
  reject([](PlannerOptions& options) { options.knots = 1; });
  reject([](PlannerOptions& options) { options.knots = options.horizon + 1; });
  reject([](PlannerOptions& options) { options.samples = 1; });
  reject([](PlannerOptions& options) { options.rounds = 0; });
  reject([](PlannerOptions& options) { options.replan_every = 0; });
  reject([](PlannerOptions& options) { options.noise = 0; });
  reject([](PlannerOptions& options) { options.discount = 1.5; });
  reject([](PlannerOptions& options) { options.temperature = -1; });
  reject([](PlannerOptions& options) { options.threads = -1; });
  const TaskEntry& grid = find_task("game/catch");  // discrete actions
  const std::unique_ptr<Environment> discrete = grid.make();
  EXPECT_THROW(static_cast<void>(make_planner(*discrete, grid.make, small_planner())), ContractError);
}

}  // namespace
}  // namespace gato::env
