#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "env/blocks/blocks_camera.h"
#include "env/blocks/blocks_expert.h"
#include "env/blocks/blocks_world.h"
#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/env/environment.h"

namespace gato::env::blocks {
namespace {

using Action = std::array<double, kActions>;
constexpr Action kNothing = {};

/// Red at (0, 0) below the open hand, the others far away.
World plain_world() {
  World world = make_world(0);
  world.tip = {0, 0, 0.1};
  world.yaw = 0;
  world.blocks[kRed] = {{0, 0, kHalf}, 0, 0};
  world.blocks[kGreen] = {{-0.15, 0.15, kHalf}, 0, 0};
  world.blocks[kBlue] = {{0.15, 0.15, kHalf}, 0, 0};
  return world;
}

void repeat(World& world, const Action& action, int times) {
  for (int i = 0; i < times; ++i) ASSERT_FALSE(advance(world, action));
}

double lowest_distance(const World& world) {
  double least = 1;
  for (size_t i = 0; i < kBlocks; ++i) {
    for (size_t j = 0; j < i; ++j) {
      const Vec3 a = world.blocks[i].at, b = world.blocks[j].at;
      least = std::min(least, std::hypot(a.x - b.x, a.y - b.y, a.z - b.z));
    }
  }
  return least;
}

TEST(BlocksTest, ExpertStacksFromEverywhere) {
  int steps = 0;
  for (uint64_t seed = 0; seed < 300; ++seed) {
    World world = make_world(seed);
    EXPECT_GE(lowest_distance(world), 0.08);
    bool stacked = false;
    while (!world.over) stacked = advance(world, expert_action(world));
    EXPECT_TRUE(stacked) << seed;
    EXPECT_EQ(resting_on(world, kRed), kBlue);
    steps += world.steps;
  }
  EXPECT_LT(steps, 300 * 45);
}

TEST(BlocksTest, ExpertComesBackFromNoise) {
  int stacked = 0;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    World world = make_world(seed);
    Rng rng(seed);
    bool done = false;
    while (!world.over) {
      Action action = expert_action(world);
      for (double& value : action) value += 0.15 * rng.normal();
      done = advance(world, action);
    }
    stacked += done ? 1 : 0;
  }
  EXPECT_GE(stacked, 95);
}

TEST(BlocksTest, ExpertClearsWhatLiesInTheWay) {
  for (const int below : {kRed, kBlue}) {
    World world = plain_world();
    world.blocks[kGreen].at = world.blocks[static_cast<size_t>(below)].at;
    world.blocks[kGreen].at.z += 2 * kHalf;
    bool stacked = false;
    while (!world.over) stacked = advance(world, expert_action(world));
    EXPECT_TRUE(stacked) << below;
    EXPECT_EQ(resting_on(world, kGreen), -1);
  }
}

TEST(BlocksTest, RandomPlayKeepsBlocksOnTheTableAndApart) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    World world = make_world(seed);
    Rng rng(seed);
    while (!world.over) {
      Action action;
      for (double& value : action) value = 4 * rng.uniform() - 2;  // clipped
      advance(world, action);
      for (const Block& block : world.blocks) {
        EXPECT_LE(std::max(std::abs(block.at.x), std::abs(block.at.y)), kReach + 0.06);
        EXPECT_GE(block.at.z, kHalf - 1e-9);
      }
      EXPECT_LE(std::max(std::abs(world.tip.x), std::abs(world.tip.y)), kReach);
      EXPECT_GE(world.grip, 0);
    }
    EXPECT_GT(lowest_distance(world), kHalf) << seed;
  }
}

TEST(BlocksTest, GraspCarryAndLetGo) {
  World world = plain_world();
  repeat(world, {0, 0, -1, 0, -1}, 4);
  EXPECT_NEAR(world.tip.z, 0.02, 1e-9);
  repeat(world, {0, 0, 0, 0, 1}, 3);
  ASSERT_EQ(world.held, kRed);
  EXPECT_DOUBLE_EQ(world.grip, 2 * kHalf);
  repeat(world, {1, 0, 1, 1, 1}, 3);
  EXPECT_NEAR(world.blocks[kRed].at.x, 0.06, 1e-9);
  EXPECT_NEAR(world.blocks[kRed].at.z, kHalf + 0.06, 1e-9);
  EXPECT_NEAR(world.blocks[kRed].yaw, 0.45, 1e-9);
  repeat(world, {0, 0, 0, 0, -1}, 8);
  EXPECT_EQ(world.held, -1);
  EXPECT_NEAR(world.blocks[kRed].at.z, kHalf, 1e-9) << "it falls";
  EXPECT_EQ(world.blocks[kRed].falling, 0);
}

TEST(BlocksTest, FingersBesideTheBlockTakeNothing) {
  World world = plain_world();
  world.tip.y = 0.03;
  repeat(world, {0, 0, -1, 0, -1}, 4);
  repeat(world, {0, 0, 0, 0, 1}, 7);
  EXPECT_EQ(world.held, -1);
  EXPECT_EQ(world.grip, 0);
}

TEST(BlocksTest, AClosedHandPushesBlocksThatPushBlocks) {
  World world = plain_world();
  world.tip = {-0.1, 0, 0.02};
  world.grip = 0;
  world.blocks[kBlue].at = {0.06, 0, kHalf};
  repeat(world, {1, 0, 0, 0, 1}, 7);
  EXPECT_GT(world.blocks[kRed].at.x, 0.05);
  EXPECT_GT(world.blocks[kBlue].at.x, world.blocks[kRed].at.x + 2 * kHalf - 1e-6);
  EXPECT_NEAR(world.blocks[kBlue].at.y, 0, 1e-6);
}

TEST(BlocksTest, ABlockOnAnEdgeSlidesOffAndOneAboveTheMiddleRides) {
  World world = plain_world();
  world.blocks[kGreen].at = {0.025, 0, 3 * kHalf};  // its middle is beside red
  repeat(world, kNothing, 15);
  EXPECT_NEAR(world.blocks[kGreen].at.z, kHalf, 1e-9);
  EXPECT_GE(world.blocks[kGreen].at.x, 2 * kHalf - 1e-9);

  world = plain_world();
  world.tip = {-0.1, 0, 0.01};
  world.grip = 0;
  world.blocks[kGreen].at = {0.01, 0, 3 * kHalf};
  repeat(world, {1, 0, 0, 0, 1}, 6);
  EXPECT_GT(world.blocks[kRed].at.x, 0.03);
  EXPECT_NEAR(world.blocks[kGreen].at.x - world.blocks[kRed].at.x, 0.01, 1e-9);
  EXPECT_EQ(resting_on(world, kGreen), kRed);
}

TEST(BlocksTest, TheHandStopsOnBlocks) {
  World world = plain_world();
  world.blocks[kGreen].at = {0, 0, 3 * kHalf};
  repeat(world, {0, 0, -1, 0, -1}, 10);
  EXPECT_NEAR(world.tip.z, 4 * kHalf - kPalmHeight, 1e-9) << "the palm lies on the upper block";
}

TEST(BlocksTest, StackingNeedsLettingGo) {
  World world = plain_world();
  world.blocks[kRed].at = {0.15, 0.15, 3 * kHalf};
  world.tip = world.blocks[kRed].at;
  world.grip = 2 * kHalf;
  world.held = kRed;
  EXPECT_FALSE(advance(world, kNothing));
  EXPECT_TRUE(advance(world, {0, 0, 0, 0, -1}));
  EXPECT_TRUE(world.over);
  EXPECT_THROW(advance(world, kNothing), ContractError);
}

TEST(BlocksTest, JointsReachTheHand) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const World world = make_world(seed);
    const Joints joints = joints_of(world);
    const double elbow = joints.shoulder + joints.elbow;
    EXPECT_NEAR(kBase.x + kUpperArm * std::cos(joints.shoulder) + kForearm * std::cos(elbow), world.tip.x, 1e-9);
    EXPECT_NEAR(kBase.y + kUpperArm * std::sin(joints.shoulder) + kForearm * std::sin(elbow), world.tip.y, 1e-9);
  }
}

TEST(BlocksTest, BothCamerasSeeTheBlocks) {
  World world = plain_world();
  for (const Camera camera : {Camera::kFront, Camera::kWrist}) {
    const episode::Image before = draw_view(world, camera);
    ASSERT_EQ(before.pixels.size(), static_cast<size_t>(kViewSide * kViewSide * 3));
    int red = 0;
    for (size_t i = 0; i < before.pixels.size(); i += 3) {
      red += before.pixels[i] > 2 * before.pixels[i + 1] && before.pixels[i] > 2 * before.pixels[i + 2] ? 1 : 0;
    }
    EXPECT_GT(red, 10);
    World moved = world;
    moved.blocks[kRed].at.x += 0.02;
    EXPECT_NE(draw_view(moved, camera), before);
  }
  EXPECT_EQ(draw_view(world, Camera::kFront, 128).width, 128);
}

TEST(BlocksTest, TheTaskShowsTwoCamerasAndTheArm) {
  const auto environment = make_environment("blocks/stack");
  const StepValues start = environment->reset(3);
  ASSERT_EQ(start.size(), 7u);
  EXPECT_EQ(start[0].image.width, 64);
  EXPECT_NE(start[0].image, start[1].image);
  EXPECT_EQ(start[6].discrete, std::vector<int32_t>{0});
  const auto frame = environment->frame();
  ASSERT_TRUE(frame);
  EXPECT_GT(frame->width, frame->height);
}

}  // namespace
}  // namespace gato::env::blocks
