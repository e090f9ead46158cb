#include <gtest/gtest.h>

#include <algorithm>
#include <array>
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
  constexpr std::array<const char*, 5> kNames = {"GoTo", "PickUp", "Open", "Unlock", "PutNext"};
  return kNames[static_cast<size_t>(mission.param)];
}
INSTANTIATE_TEST_SUITE_P(Missions, GridWorldTest,
                         testing::Values(Mission::kGoTo, Mission::kPickUp, Mission::kOpen, Mission::kUnlock,
                                         Mission::kPutNext),
                         mission_name);

TEST_P(GridWorldTest, WorldsAreAsPromised) {
  std::set<int> sides;
  std::set<Cell> goals;
  for (uint64_t seed = 0; seed < 500; ++seed) {
    const World world = make_world(GetParam(), seed);
    sides.insert(world.side);
    goals.insert(world.goal_object);
    EXPECT_EQ(world.at(world.goal), world.goal_object);
    EXPECT_EQ(world.at(world.agent.position), kEmpty);
    std::set<Cell> objects, doors;
    int walls = 0;
    for (int y = 0; y < world.side; ++y) {
      for (int x = 0; x < world.side; ++x) {
        const Cell cell = world.at({x, y});
        walls += cell == kWall ? 1 : 0;
        if (cell < kFirstObject) continue;
        if (is_door(cell)) {
          EXPECT_TRUE(x == 0 || y == 0 || x == world.side - 1 || y == world.side - 1) << "a door in no wall";
          doors.insert(cell);
          continue;
        }
        EXPECT_TRUE(objects.insert(cell).second) << "two objects alike";
      }
    }
    EXPECT_EQ(objects.size(), static_cast<size_t>(kObjects));
    EXPECT_EQ(walls + static_cast<int>(doors.size()), 4 * (world.side - 1));
    const bool has_doors = GetParam() == Mission::kOpen || GetParam() == Mission::kUnlock;
    EXPECT_EQ(!doors.empty(), has_doors);
    if (has_doors) {
      EXPECT_EQ(doors.count(world.goal_object), 1u);
    }
    if (GetParam() == Mission::kUnlock) {
      EXPECT_EQ(world.at(world.other), key_of(door_color(world.goal_object)));
    }
    EXPECT_FALSE(GetParam() == Mission::kGoTo && in_front(world.agent) == world.goal) << "fulfilled at the start";
  }
  EXPECT_EQ(sides, (std::set<int>{7, 8, 9}));
  const bool opens = GetParam() == Mission::kOpen || GetParam() == Mission::kUnlock;
  EXPECT_EQ(goals.size(), opens ? kColors.size() : 18u);
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
  EXPECT_LT(steps / 1000, GetParam() >= Mission::kUnlock ? 20.0 : (GetParam() == Mission::kOpen ? 13.0 : 9.0));
}

TEST_P(GridWorldTest, ExpertSucceedsFromWhereverNoiseLedIt) {
  int failures = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    World world = make_world(GetParam(), seed);
    Rng random(seed);
    bool fulfilled = false;
    while (!world.over) {
      const auto any = static_cast<int32_t>(random.below(handles_things(GetParam()) ? num_actions(GetParam()) : 3));
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

void put(World& world, Position place, Cell cell) { world.cells[World::index(place)] = cell; }

TEST(GridRulesTest, UnlockNeedsTheKeyOfTheDoorsColour) {
  constexpr int kGreen = 1, kBlue = 2;
  World world = small_room(Mission::kUnlock);
  put(world, {3, 1}, kEmpty);
  world.goal = {3, 0};
  world.goal_object = door_cell(Door::kLocked, kGreen);
  put(world, world.goal, world.goal_object);
  world.other = {2, 2};
  world.other_object = key_of(kGreen);
  put(world, world.other, world.other_object);
  put(world, {4, 1}, key_of(kBlue));
  world.agent = {{3, 1}, 0};
  EXPECT_EQ(mission_text(world), "unlock the green door");
  EXPECT_FALSE(advance(world, kToggle)) << "with empty hands";
  EXPECT_EQ(world.at(world.goal), world.goal_object);
  advance(world, kTurnRight);
  advance(world, kPickUpAction);
  EXPECT_EQ(world.carrying, key_of(kBlue));
  EXPECT_EQ(world.at({4, 1}), kEmpty);
  advance(world, kTurnLeft);
  EXPECT_FALSE(advance(world, kToggle)) << "with another key";
  bool fulfilled = false;
  for (int i = 0; i < 20 && !fulfilled; ++i) fulfilled = advance(world, expert_action(world));  // puts it down first
  EXPECT_TRUE(fulfilled);
  EXPECT_EQ(world.carrying, key_of(kGreen));
  EXPECT_EQ(world.at(world.goal), door_cell(Door::kOpen, kGreen));
}

TEST(GridRulesTest, PutNextMovesEitherObject) {
  World world = small_room(Mission::kPutNext);
  world.other = {5, 3};
  world.other_object = kFirstObject + 7;
  put(world, world.other, world.other_object);
  world.agent = {{4, 3}, 1};
  EXPECT_EQ(mission_text(world), "put the red ball next to the green key");
  EXPECT_FALSE(advance(world, kDrop)) << "nothing in hand";
  EXPECT_FALSE(advance(world, kPickUpAction));
  EXPECT_FALSE(advance(world, kPickUpAction)) << "hands full";
  EXPECT_EQ(world.carrying, world.other_object);
  EXPECT_FALSE(advance(world, kTurnLeft));
  EXPECT_FALSE(advance(world, kForward));
  EXPECT_EQ(world.agent.position, (Position{4, 2}));
  World beside = world;
  EXPECT_FALSE(advance(beside, kForward));
  EXPECT_FALSE(advance(beside, kForward)) << "a wall";
  EXPECT_FALSE(advance(beside, kDrop)) << "on a wall";
  EXPECT_EQ(beside.carrying, beside.other_object);
  EXPECT_TRUE(advance(world, kDrop)) << "at (4, 1), beside (3, 1)";
  EXPECT_EQ(world.other, (Position{4, 1}));
  EXPECT_EQ(world.carrying, kEmpty);
}

TEST(GridRulesTest, OpenIsForTheNamedDoorOnly) {
  World world = small_room(Mission::kOpen);
  put(world, {3, 1}, kEmpty);
  world.goal = {3, 0};
  world.goal_object = door_cell(Door::kClosed, 0);
  put(world, world.goal, world.goal_object);
  put(world, {6, 1}, door_cell(Door::kClosed, 3));
  world.agent = {{5, 1}, 1};
  EXPECT_FALSE(advance(world, kForward)) << "a closed door stops the agent";
  EXPECT_FALSE(advance(world, kToggle));
  EXPECT_EQ(world.at({6, 1}), door_cell(Door::kOpen, 3));
  EXPECT_FALSE(advance(world, kForward));
  EXPECT_EQ(world.agent.position, (Position{5, 1})) << "nothing lies behind an open door";
  EXPECT_FALSE(advance(world, kToggle));
  EXPECT_EQ(world.at({6, 1}), door_cell(Door::kClosed, 3));
  world.agent = {{3, 1}, 0};
  EXPECT_EQ(expert_action(world), kToggle);
  EXPECT_TRUE(advance(world, kToggle));
}

TEST(GridTaskTest, ObservationIsShort) {
  const auto environment = make_environment("grid/go_to");
  const TaskSpec& spec = environment->spec();
  EXPECT_TRUE(spec.partial_view);
  EXPECT_EQ(spec.action[0].num_values, 3);
  EXPECT_EQ(make_environment("grid/pick_up")->spec().action[0].num_values, 4);
  const auto put_next = make_environment("grid/put_next");
  ASSERT_EQ(put_next->spec().observation.size(), 3u);
  EXPECT_EQ(put_next->reset(1)[2].discrete, std::vector<int32_t>{kEmpty});
  EXPECT_EQ(put_next->spec().max_steps, 80);
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
