#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "env/grid/grid_expert.h"
#include "env/grid/grid_world.h"
#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/env/rollout.h"

namespace gato::env::grid {
namespace {

class GridWorldTest : public testing::TestWithParam<Mission> {};
std::string mission_name(const testing::TestParamInfo<Mission>& mission) {
  return mission.param == Mission::kGoTo ? "GoTo" : "PickUp";
}
INSTANTIATE_TEST_SUITE_P(Missions, GridWorldTest, testing::Values(Mission::kGoTo, Mission::kPickUp), mission_name);

TEST_P(GridWorldTest, WorldsAreAsPromised) {
  std::set<int> sides;
  std::set<Cell> goals;
  for (uint64_t seed = 0; seed < 500; ++seed) {
    const World world = make_world(GetParam(), seed);
    sides.insert(world.side);
    goals.insert(world.goal_object);
    EXPECT_EQ(world.at(world.goal), world.goal_object);
    EXPECT_EQ(world.at(world.agent.position), kEmpty);
    std::set<Cell> objects;
    int walls = 0;
    for (int y = 0; y < world.side; ++y) {
      for (int x = 0; x < world.side; ++x) {
        const Cell cell = world.at({x, y});
        walls += cell == kWall ? 1 : 0;
        if (cell < kFirstObject) continue;
        EXPECT_TRUE(objects.insert(cell).second) << "two objects alike";
      }
    }
    EXPECT_EQ(objects.size(), static_cast<size_t>(kObjects));
    EXPECT_EQ(walls, 4 * (world.side - 1));
    EXPECT_FALSE(GetParam() == Mission::kGoTo && in_front(world.agent) == world.goal) << "fulfilled at the start";
  }
  EXPECT_EQ(sides, (std::set<int>{7, 8, 9}));
  EXPECT_EQ(goals.size(), 18u);
}

TEST_P(GridWorldTest, ExpertAlwaysSucceeds) {
  double steps = 0;
  for (uint64_t seed = 0; seed < 1000; ++seed) {
    World world = make_world(GetParam(), seed);
    bool fulfilled = false;
    while (!world.over) fulfilled = advance(world, expert_action(world));
    EXPECT_TRUE(fulfilled) << seed;
    steps += world.steps;
  }
  EXPECT_LT(steps / 1000, 9.0);
}

TEST_P(GridWorldTest, ExpertSucceedsFromWhereverNoiseLedIt) {
  int failures = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    World world = make_world(GetParam(), seed);
    Rng random(seed);
    bool fulfilled = false;
    while (!world.over) {
      const auto any = static_cast<int32_t>(random.below(3));
      const int32_t best = expert_action(world);
      fulfilled = advance(world, random.uniform() < 0.4 ? any : best);
    }
    failures += fulfilled ? 0 : 1;
  }
  EXPECT_LE(failures, 15);
}

/// A 7 x 7 room with the agent at (3, 3) looking up, and a red ball at (3, 1).
World small_room(Mission mission) {
  World world = make_world(mission, 0);
  world.side = 7;
  world.cells.fill(kEmpty);
  for (int i = 0; i < 7; ++i) {
    for (const Position p : {Position{i, 0}, {i, 6}, {0, i}, {6, i}}) world.cells[World::index(p)] = kWall;
  }
  world.agent = {{3, 3}, 0};
  world.goal = {3, 1};
  world.goal_object = kFirstObject;
  world.cells[World::index(world.goal)] = kFirstObject;
  world.seen.fill(true);
  world.steps = 0;
  world.over = false;
  return world;
}

TEST(GridRulesTest, TheViewIsWhatLiesAhead) {
  World world = small_room(Mission::kGoTo);
  world.cells[World::index({1, 3})] = 7;  // two to the left
  std::vector<int32_t> view = view_of(world);
  ASSERT_EQ(view.size(), 25u);
  EXPECT_EQ(view[22], kEmpty) << "where the agent stands";
  EXPECT_EQ(view[12], kFirstObject) << "two ahead";
  EXPECT_EQ(view[20], 7) << "two to the left";
  for (size_t i = 0; i < 10; ++i) EXPECT_EQ(view[i], kWall) << "the wall, and what lies behind it";
  world.agent.direction = 1;  // looks right: up is now to the left
  view = view_of(world);
  EXPECT_EQ(view[20], kFirstObject);
  EXPECT_EQ(view[12], kEmpty);
  for (const size_t i : {0u, 1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u, 9u}) EXPECT_EQ(view[i], kWall);
}

TEST(GridRulesTest, TurnsAndWalks) {
  World world = small_room(Mission::kPickUp);
  EXPECT_FALSE(advance(world, kTurnLeft));
  EXPECT_EQ(world.agent, (Pose{{3, 3}, 3}));
  EXPECT_FALSE(advance(world, kForward));
  EXPECT_EQ(world.agent, (Pose{{2, 3}, 3}));
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(advance(world, kForward));
  EXPECT_EQ(world.agent, (Pose{{1, 3}, 3})) << "a wall stops the agent";
  EXPECT_FALSE(advance(world, kTurnRight));
  EXPECT_EQ(world.agent, (Pose{{1, 3}, 0}));
  EXPECT_EQ(world.steps, 8);
}

TEST(GridRulesTest, GoToEndsWhenTheGoalIsFaced) {
  World world = small_room(Mission::kGoTo);
  EXPECT_EQ(expert_action(world), kForward);
  EXPECT_TRUE(advance(world, kForward));
  EXPECT_TRUE(world.over);
  EXPECT_DOUBLE_EQ(reward_of_success(world), 1 - 0.5 / 40);
  EXPECT_THROW(advance(world, kForward), ContractError);
}

TEST(GridRulesTest, PickUpNeedsTheActionInFrontOfTheGoal) {
  World world = small_room(Mission::kPickUp);
  EXPECT_FALSE(advance(world, kPickUpAction)) << "too far away";
  EXPECT_FALSE(advance(world, kForward)) << "facing it is not enough";
  EXPECT_FALSE(advance(world, kForward)) << "objects stop the agent";
  EXPECT_EQ(world.agent.position, (Position{3, 2}));
  EXPECT_EQ(expert_action(world), kPickUpAction);
  EXPECT_TRUE(advance(world, kPickUpAction));
}

TEST(GridRulesTest, EndsAfterFortySteps) {
  World world = small_room(Mission::kPickUp);
  for (int i = 0; i < kMaxSteps; ++i) {
    ASSERT_FALSE(world.over);
    EXPECT_FALSE(advance(world, kTurnLeft));
  }
  EXPECT_TRUE(world.over);
}

TEST(GridRulesTest, ExpertLooksForWhatItHasNotSeen) {
  World world = small_room(Mission::kGoTo);
  world.seen.fill(false);
  world.agent.direction = 2;  // the goal is behind
  for (const Position p : cells_in_view(world.agent)) {
    if (world.inside(p)) world.seen[World::index(p)] = true;
  }
  ASSERT_FALSE(world.seen_at(world.goal));
  World moved_goal = world;  // where the goal hides must not matter
  moved_goal.cells[World::index(world.goal)] = kEmpty;
  moved_goal.goal = {2, 1};
  moved_goal.cells[World::index({2, 1})] = kFirstObject;
  ASSERT_FALSE(moved_goal.seen_at(moved_goal.goal));
  EXPECT_EQ(expert_action(world), expert_action(moved_goal));
}

TEST(GridTaskTest, ObservationIsShort) {
  const auto environment = make_environment("grid/go_to");
  const TaskSpec& spec = environment->spec();
  EXPECT_TRUE(spec.partial_view);
  EXPECT_EQ(spec.action[0].num_values, 3);
  EXPECT_EQ(make_environment("grid/pick_up")->spec().action[0].num_values, 4);
  const StepValues start = environment->reset(1);
  EXPECT_EQ(start[0].text.substr(0, 10), "go to the ");
  EXPECT_EQ(std::count(start[0].text.begin(), start[0].text.end(), ' '), 4);
  EXPECT_EQ(start[1].discrete.size(), 25u);
  const auto frame = environment->frame();
  ASSERT_TRUE(frame);
  EXPECT_EQ(frame->width, 288);
}

TEST(GridTaskTest, SuccessIsTerminationAndFailureTruncation) {
  for (const RolloutResult& result : roll_out_reference("grid/go_to", ReferenceAgent::kExpert, {1, 2, 3})) {
    EXPECT_EQ(result.success, std::optional(true));
    EXPECT_GT(result.episode_return, 0.5);
  }
  const auto environment = make_environment("grid/pick_up");
  environment->reset(1);
  StepValues turn(1);
  turn[0].discrete = {kTurnLeft};
  StepResult step;
  for (int i = 0; i < kMaxSteps; ++i) step = environment->step(turn);
  EXPECT_TRUE(step.truncated);
  EXPECT_FALSE(step.terminated);
  EXPECT_EQ(step.success, std::optional(false));
}

}  // namespace
}  // namespace gato::env::grid
