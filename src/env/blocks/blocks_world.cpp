#include "env/blocks/blocks_world.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "gato/core/error.h"
#include "gato/core/random.h"

namespace gato::env::blocks {

namespace {

constexpr double kPi = std::numbers::pi;
constexpr double kGravityPerStep = 9.81 * 0.05 * 0.05;  // metres per step, per step
constexpr double kSlidePerStep = 0.006;                 // of a block whose middle has no support
constexpr double kTouch = 0.004;                        // heights closer than this count as touching
constexpr double kApartAtStart = 0.085;
constexpr double kPalmRadius = 0.03;

struct Vec2 {
  double x = 0, y = 0;
};

Vec2 axis_of(double yaw) { return {std::cos(yaw), std::sin(yaw)}; }
double dot(Vec2 a, Vec2 b) { return a.x * b.x + a.y * b.y; }
Vec2 flat(Vec3 from, Vec3 to) { return {to.x - from.x, to.y - from.y}; }

double top_of(const Block& block) { return block.at.z + kHalf; }
double bottom_of(const Block& block) { return block.at.z - kHalf; }

/// The shortest way, in the plane, to push `block` out of `other`; (0, 0) where they do not overlap from above.
Vec2 way_out(const Block& block, const Block& other) {
  const Vec2 between = flat(other.at, block.at);
  double least = 1e9;
  Vec2 out;
  for (const double yaw : {block.yaw, block.yaw + kPi / 2, other.yaw, other.yaw + kPi / 2}) {
    const Vec2 axis = axis_of(yaw);
    double reach = 0;
    for (const double own : {block.yaw, other.yaw}) {
      reach += kHalf * (std::abs(dot(axis, axis_of(own))) + std::abs(dot(axis, axis_of(own + kPi / 2))));
    }
    const double along = dot(between, axis), overlap = reach - std::abs(along);
    if (overlap <= 0) return {};
    if (overlap >= least) continue;
    least = overlap;
    const double sign = along < 0 ? -1 : 1;
    out = {sign * overlap * axis.x, sign * overlap * axis.y};
  }
  return out;
}

bool overlap_from_above(const Block& a, const Block& b) {
  const Vec2 out = way_out(a, b);
  return out.x != 0 || out.y != 0;
}

/// Whether the middle of `block` lies above the square of `other`.
bool middle_is_above(const Block& block, const Block& other) {
  const Vec2 offset = flat(other.at, block.at);
  return std::abs(dot(offset, axis_of(other.yaw))) <= kHalf &&
         std::abs(dot(offset, axis_of(other.yaw + kPi / 2))) <= kHalf;
}

/// Moves a block, and what rests on it along with it.
void move_block(World& world, int index, Vec2 by) {
  for (int i = 0; i < kBlocks; ++i) {
    if (i != index && i != world.held && resting_on(world, i) == index) move_block(world, i, by);
  }
  Block& block = world.blocks[static_cast<size_t>(index)];
  const double limit = kReach + 2 * kHalf;  // a rim keeps blocks on the table
  block.at.x = std::clamp(block.at.x + by.x, -limit, limit);
  block.at.y = std::clamp(block.at.y + by.y, -limit, limit);
}

/// Out of a finger, a vertical rod whose lower end is at the height of the fingertips.
void push_by_finger(World& world, int index, Vec2 finger) {
  const Block& block = world.blocks[static_cast<size_t>(index)];
  if (world.tip.z - kFingerRadius >= top_of(block) || world.tip.z + kPalmHeight <= bottom_of(block)) return;
  const Vec2 side = axis_of(block.yaw), front = axis_of(block.yaw + kPi / 2);
  const Vec2 offset = {finger.x - block.at.x, finger.y - block.at.y};
  const double u = dot(offset, side), v = dot(offset, front);
  const double inside_u = kHalf + kFingerRadius - std::abs(u), inside_v = kHalf + kFingerRadius - std::abs(v);
  if (inside_u <= 0 || inside_v <= 0) return;
  const bool along_u = inside_u < inside_v;
  const double by = along_u ? (u > 0 ? -inside_u : inside_u) : (v > 0 ? -inside_v : inside_v);
  const Vec2 axis = along_u ? side : front;
  move_block(world, index, {by * axis.x, by * axis.y});
}

void push_by_fingers(World& world) {
  const Vec2 axis = axis_of(world.yaw);
  const double from_middle = world.grip / 2 + kFingerRadius;
  for (int i = 0; i < kBlocks; ++i) {
    if (i == world.held) continue;
    for (const double sign : {-1.0, 1.0}) {
      push_by_finger(world, i, {world.tip.x + sign * from_middle * axis.x, world.tip.y + sign * from_middle * axis.y});
    }
  }
}

/// Pushes blocks at about the same height apart; the one that is held does not give way.
void push_apart(World& world) {
  for (int i = 0; i < kBlocks; ++i) {
    for (int j = 0; j < kBlocks; ++j) {
      const Block &block = world.blocks[static_cast<size_t>(i)], &other = world.blocks[static_cast<size_t>(j)];
      if (i == j || i == world.held || (j > i && j != world.held)) continue;
      if (std::abs(block.at.z - other.at.z) >= 2 * kHalf - kTouch) continue;
      move_block(world, i, way_out(block, other));
    }
  }
}

/// The height that block `index` may fall to; blocks below are at most kTouch above its lower side.
double support_below(const World& world, int index) {
  const Block& block = world.blocks[static_cast<size_t>(index)];
  double height = 0;
  for (int i = 0; i < kBlocks; ++i) {
    const Block& other = world.blocks[static_cast<size_t>(i)];
    if (i == index || top_of(other) > bottom_of(block) + kTouch || !overlap_from_above(block, other)) continue;
    height = std::max(height, top_of(other));
  }
  return height;
}

void fall(World& world, int index) {
  Block& block = world.blocks[static_cast<size_t>(index)];
  const double support = support_below(world, index);
  block.falling += kGravityPerStep;
  const double height = bottom_of(block) - block.falling;
  if (height > support) {
    block.at.z = height + kHalf;
    return;
  }
  block.at.z = support + kHalf;
  block.falling = 0;
  if (support == 0 || resting_on(world, index) >= 0) return;
  // On an edge: it slides off.
  for (const Block& other : world.blocks) {
    if (&other == &block || std::abs(top_of(other) - support) > kTouch) continue;
    const Vec2 out = way_out(block, other);
    const double length = std::hypot(out.x, out.y);
    if (length == 0) continue;
    const double share = std::min(1.0, kSlidePerStep / length) * (1 + 1e-9);
    move_block(world, index, {share * out.x, share * out.y});
    return;
  }
}

/// The lowest place of the fingertips where neither the palm nor a held block is in another block.
double lowest_tip(const World& world, Vec3 tip) {
  double lowest = kLowest;
  Block carried;
  if (world.held >= 0) {
    carried = world.blocks[static_cast<size_t>(world.held)];
    carried.at.x = tip.x + world.held_from_tip.x;
    carried.at.y = tip.y + world.held_from_tip.y;
    lowest = std::max(lowest, kHalf - world.held_from_tip.z);
  }
  for (int i = 0; i < kBlocks; ++i) {
    const Block& block = world.blocks[static_cast<size_t>(i)];
    if (i == world.held) continue;
    if (std::hypot(block.at.x - tip.x, block.at.y - tip.y) < kPalmRadius) {
      lowest = std::max(lowest, top_of(block) - kPalmHeight);
    }
    const bool is_below = world.held >= 0 && bottom_of(carried) > top_of(block) - kTouch;
    if (is_below && overlap_from_above(carried, block)) {
      lowest = std::max(lowest, top_of(block) + kHalf - world.held_from_tip.z);
    }
  }
  return lowest;
}

void move_hand(World& world, const std::array<double, kActions>& action) {
  world.tip.x = std::clamp(world.tip.x + kMovePerStep * action[0], -kReach, kReach);
  world.tip.y = std::clamp(world.tip.y + kMovePerStep * action[1], -kReach, kReach);
  const double before = world.tip.z;
  world.tip.z = std::clamp(world.tip.z + kMovePerStep * action[2], kLowest, kHighest);
  // What is in the way stops the hand; it never lifts it.
  world.tip.z = std::max(world.tip.z, std::min(before, lowest_tip(world, world.tip)));
  world.yaw = std::clamp(world.yaw + kTurnPerStep * action[3], -kPi / 2, kPi / 2);
}

/// Whether the fingers, closed, would have the block between them.
bool is_between_fingers(const World& world, const Block& block) {
  const Vec2 offset = flat(world.tip, block.at);
  const Vec2 axis = axis_of(world.yaw), across = axis_of(world.yaw + kPi / 2);
  return std::abs(dot(offset, axis)) <= kWidestGrip / 2 - kHalf + kTouch && std::abs(dot(offset, across)) <= 0.015 &&
         std::abs(block.at.z - world.tip.z) <= kHalf - 0.002 &&
         std::abs(quarter_turn(block.yaw - world.yaw)) <= kPi / 8;
}

void grasp(World& world, int index) {
  Block& block = world.blocks[static_cast<size_t>(index)];
  // The fingers turn the block to lie flat between them, and centre it.
  block.yaw = block.yaw - quarter_turn(block.yaw - world.yaw);
  const Vec2 offset = flat(world.tip, block.at), across = axis_of(world.yaw + kPi / 2);
  const double kept = dot(offset, across);
  block.at.x = world.tip.x + kept * across.x;
  block.at.y = world.tip.y + kept * across.y;
  world.held = index;
  world.held_from_tip = {block.at.x - world.tip.x, block.at.y - world.tip.y, block.at.z - world.tip.z};
  world.held_yaw = block.yaw - world.yaw;
}

void move_fingers(World& world, double close) {
  const double before = world.grip;
  world.grip = std::clamp(world.grip - kGripPerStep * close, 0.0, kWidestGrip);
  if (world.held >= 0) {
    if (world.grip > 2 * kHalf + kTouch) world.held = -1;
    world.grip = std::max(world.grip, 2 * kHalf);
    return;
  }
  if (before <= 2 * kHalf || world.grip > 2 * kHalf) return;  // only fingers that close on a block take it
  for (int i = 0; i < kBlocks; ++i) {
    const Block& block = world.blocks[static_cast<size_t>(i)];
    if (!is_between_fingers(world, block)) continue;
    world.grip = 2 * kHalf;
    return grasp(world, i);
  }
}

void carry(World& world, double yaw_before) {
  if (world.held < 0) return;
  Block& block = world.blocks[static_cast<size_t>(world.held)];
  const double turn = world.yaw - yaw_before, c = std::cos(turn), s = std::sin(turn);
  const Vec3 offset = world.held_from_tip;
  world.held_from_tip = {c * offset.x - s * offset.y, s * offset.x + c * offset.y, offset.z};
  block.at = {world.tip.x + world.held_from_tip.x, world.tip.y + world.held_from_tip.y,
              world.tip.z + world.held_from_tip.z};
  block.yaw = world.yaw + world.held_yaw;
  block.falling = 0;
}

void settle(World& world) {
  std::array<int, kBlocks> order;
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int a, int b) {
    return world.blocks[static_cast<size_t>(a)].at.z < world.blocks[static_cast<size_t>(b)].at.z;
  });
  for (const int index : order) {
    if (index != world.held) fall(world, index);
  }
}

bool is_stacked(const World& world) {
  return world.held != kRed && world.held != kBlue && world.blocks[kRed].falling == 0 &&
         resting_on(world, kRed) == kBlue;
}

}  // namespace

double quarter_turn(double angle) { return angle - kPi / 2 * std::round(angle / (kPi / 2)); }

int resting_on(const World& world, int index) {
  const Block& block = world.blocks[static_cast<size_t>(index)];
  for (int i = 0; i < kBlocks; ++i) {
    const Block& other = world.blocks[static_cast<size_t>(i)];
    if (i != index && std::abs(top_of(other) - bottom_of(block)) <= 1e-6 && middle_is_above(block, other)) return i;
  }
  return -1;
}

World make_world(uint64_t seed) {
  Rng rng(mix_seed(seed, {hash_name("blocks")}));
  const auto uniform = [&](double low, double high) { return low + (high - low) * rng.uniform(); };
  World world;
  for (size_t i = 0; i < kBlocks;) {
    Block& block = world.blocks[i];
    block.at = {uniform(-0.15, 0.15), uniform(-0.15, 0.15), kHalf};
    block.yaw = uniform(-kPi / 4, kPi / 4);
    const bool apart =
        std::all_of(world.blocks.begin(), world.blocks.begin() + static_cast<int64_t>(i), [&](const Block& other) {
          return std::hypot(block.at.x - other.at.x, block.at.y - other.at.y) >= kApartAtStart;
        });
    if (apart) ++i;
  }
  world.tip = {uniform(-0.1, 0.1), uniform(-0.1, 0.1), uniform(0.12, 0.2)};
  world.yaw = uniform(-kPi / 4, kPi / 4);
  return world;
}

bool advance(World& world, const std::array<double, kActions>& action) {
  GATO_CHECK(!world.over, "a world of blocks was stepped after its end");
  std::array<double, kActions> clipped = action;
  for (double& value : clipped) value = std::clamp(value, -1.0, 1.0);
  ++world.steps;
  const double yaw_before = world.yaw;
  move_hand(world, clipped);
  carry(world, yaw_before);
  move_fingers(world, clipped[4]);
  push_by_fingers(world);
  push_apart(world);
  settle(world);
  const bool stacked = is_stacked(world);
  world.over = stacked || world.steps >= kMaxSteps;
  return stacked;
}

Joints joints_of(const World& world) {
  const double x = world.tip.x - kBase.x, y = world.tip.y - kBase.y;
  const double cosine = (x * x + y * y - kUpperArm * kUpperArm - kForearm * kForearm) / (2 * kUpperArm * kForearm);
  Joints joints;
  joints.elbow = std::acos(std::clamp(cosine, -1.0, 1.0));
  joints.shoulder =
      std::atan2(y, x) - std::atan2(kForearm * std::sin(joints.elbow), kUpperArm + kForearm * std::cos(joints.elbow));
  joints.shoulder = std::remainder(joints.shoulder, 2 * kPi);
  joints.wrist = std::remainder(world.yaw - joints.shoulder - joints.elbow, 2 * kPi);
  joints.lift = world.tip.z;
  return joints;
}

}  // namespace gato::env::blocks
