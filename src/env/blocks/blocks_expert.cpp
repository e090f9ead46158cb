#include "env/blocks/blocks_expert.h"

#include <algorithm>
#include <cmath>

namespace gato::env::blocks {

namespace {

using Action = std::array<double, kActions>;

constexpr double kOpen = -1, kClose = 1;
constexpr double kAligned = 0.005;       // in the plane, before going down
constexpr double kStillAligned = 0.012;  // while down
constexpr double kClearance = 0.05;      // of what is carried above what is passed
constexpr double kSpread = 0.1;          // between a block that was put away and all others

const Block& block_of(const World& world, int index) { return world.blocks[static_cast<size_t>(index)]; }

double apart(Vec3 a, Vec3 b) { return std::hypot(a.x - b.x, a.y - b.y); }

/// Straight to `place`, turning to `yaw`.
Action go(const World& world, Vec3 place, double yaw, double grip) {
  const auto part = [](double distance, double per_step) { return std::clamp(distance / per_step, -1.0, 1.0); };
  return {part(place.x - world.tip.x, kMovePerStep), part(place.y - world.tip.y, kMovePerStep),
          part(place.z - world.tip.z, kMovePerStep), part(yaw - world.yaw, kTurnPerStep), grip};
}

/// Higher than all blocks but the one that is held, as far as they are on the way, with room for what hangs below the
/// fingertips.
double safe_height(const World& world) {
  double top = 0;
  for (int i = 0; i < kBlocks; ++i) {
    if (i != world.held) top = std::max(top, block_of(world, i).at.z + kHalf);
  }
  return top + kClearance;
}

/// The hand's angle that is nearest to its present one and lies flat on a block.
double grasping_yaw(const World& world, const Block& block) {
  return std::clamp(world.yaw + quarter_turn(block.yaw - world.yaw), -1.57, 1.57);
}

Action take(const World& world, int index) {
  const Block& block = block_of(world, index);
  const double yaw = grasping_yaw(world, block), away = apart(world.tip, block.at);
  const bool is_down = world.tip.z < block.at.z + kHalf + 0.02;
  const bool is_turned = std::abs(yaw - world.yaw) < 0.1;
  if (is_down ? away > kStillAligned : (away > kAligned || !is_turned)) {
    const double height = std::max(safe_height(world), block.at.z + kClearance);
    if (world.tip.z < height - 0.01) return go(world, {world.tip.x, world.tip.y, height}, yaw, kOpen);
    return go(world, {block.at.x, block.at.y, height}, yaw, kOpen);
  }
  const bool is_deep = world.tip.z < block.at.z + 0.006;
  if (!is_deep && world.grip < 0.06) return go(world, {block.at.x, block.at.y, world.tip.z}, yaw, kOpen);
  return go(world, {block.at.x, block.at.y, block.at.z}, yaw, is_deep ? kClose : kOpen);
}

/// Puts what is held so that its middle comes to `place`.
Action put(const World& world, Vec3 place) {
  const Block& block = block_of(world, world.held);
  const double away = apart(block.at, place);
  const Vec3 tip = {place.x - world.held_from_tip.x, place.y - world.held_from_tip.y, place.z - world.held_from_tip.z};
  const bool is_down = block.at.z < place.z + 0.03;
  if (is_down ? away > kStillAligned : away > kAligned) {
    const double height = std::max(safe_height(world) + kHalf, tip.z + 0.02);
    if (world.tip.z < height - 0.01 && away > kAligned) {
      return go(world, {world.tip.x, world.tip.y, height}, world.yaw, kClose);
    }
    return go(world, {tip.x, tip.y, height}, world.yaw, kClose);
  }
  return go(world, tip, world.yaw, block.at.z > place.z + 0.004 ? kClose : kOpen);
}

/// The nearest of some places on the table that is far enough from all other blocks.
Vec3 free_place(const World& world, int index) {
  const Vec3 from = block_of(world, index).at;
  Vec3 best = {from.x, from.y, kHalf};
  double least = 1e9;
  for (int i = 0; i < 49; ++i) {
    const Vec3 place = {-0.15 + 0.05 * (i % 7), -0.15 + 0.05 * (i / 7), kHalf};
    bool is_free = true;
    for (int j = 0; j < kBlocks; ++j)
      is_free = is_free && (j == index || apart(place, block_of(world, j).at) >= kSpread);
    if (!is_free || apart(place, from) >= least) continue;
    least = apart(place, from);
    best = place;
  }
  return best;
}

/// Whether block `upper` is above `lower`, resting there or on an edge of it.
bool covers(const World& world, int upper, int lower) {
  const Vec3 a = block_of(world, upper).at, b = block_of(world, lower).at;
  return a.z > b.z + kHalf && apart(a, b) < 2.5 * kHalf;
}

}  // namespace

std::array<double, kActions> expert_action(const World& world) {
  if (world.held == kRed) {
    if (covers(world, kGreen, kBlue)) return put(world, free_place(world, kRed));
    const Vec3 blue = block_of(world, kBlue).at;
    return put(world, {blue.x, blue.y, blue.z + 2 * kHalf});
  }
  if (world.held >= 0) return put(world, free_place(world, world.held));
  if (covers(world, kGreen, kRed) || covers(world, kGreen, kBlue)) return take(world, kGreen);
  if (covers(world, kBlue, kRed)) return take(world, kBlue);
  return take(world, kRed);
}

}  // namespace gato::env::blocks
