#pragma once
#include <array>
#include <cstdint>

/// The world behind blocks/stack: a table, three coloured blocks, and an arm whose hand hangs down and turns. Blocks
/// stay upright: they slide, are pushed and carried, fall, and rest on what is below their middle. Lengths in metres,
/// angles in radians, x to the right and y away from the front camera, z upwards from the table.
namespace gato::env::blocks {

struct Vec3 {
  double x = 0, y = 0, z = 0;
  bool operator==(const Vec3&) const = default;
};

inline constexpr int kBlocks = 3;
inline constexpr int kRed = 0, kGreen = 1, kBlue = 2;
inline constexpr double kHalf = 0.02;         ///< Half the edge of a block.
inline constexpr double kReach = 0.2;         ///< The hand stays within +-kReach in x and y.
inline constexpr double kHighest = 0.28;      ///< Of the fingertips.
inline constexpr double kLowest = 0.01;       ///< Of the fingertips.
inline constexpr double kWidestGrip = 0.075;  ///< Between the fingers.
inline constexpr double kFingerRadius = 0.006;
inline constexpr double kPalmHeight = 0.05;     ///< Above the fingertips.
inline constexpr double kMovePerStep = 0.02;    ///< Metres, along each axis.
inline constexpr double kTurnPerStep = 0.15;    ///< Radians.
inline constexpr double kGripPerStep = 0.0125;  ///< Metres between the fingers.
inline constexpr int kMaxSteps = 150;           ///< Of an episode, 50 ms each.
inline constexpr int kActions = 5;              ///< Along x, y, z, turn, close (1) or open (-1); each in [-1, 1].

struct Block {
  Vec3 at;                      ///< Its middle.
  double yaw = 0, falling = 0;  ///< Speed downwards in metres per step; 0 at rest.
};

struct World {
  Vec3 tip;        ///< Middle between the fingertips.
  double yaw = 0;  ///< In [-pi/2, pi/2]; the fingers are apart along (cos yaw, sin yaw).
  double grip = kWidestGrip;
  int32_t held = -1;  ///< Index of the block between the fingers, or -1.
  Vec3 held_from_tip;
  double held_yaw = 0;  ///< Its yaw less the hand's.
  std::array<Block, kBlocks> blocks;
  int32_t steps = 0;
  bool over = false;
};

/// The world of `seed`: the blocks apart from each other on the table, the hand above, open.
[[nodiscard]] World make_world(uint64_t seed);

/// One step of 50 ms; `action` is clipped to [-1, 1]. Says whether red rests on blue, let go (then the world is over).
bool advance(World& world, const std::array<double, kActions>& action);

/// The block that block `index` rests on, or -1: the table, the hand or nothing.
[[nodiscard]] int resting_on(const World& world, int index);

/// Angles of the arm's joints, a SCARA with its base behind the table: shoulder, elbow, wrist, and the lift in metres.
struct Joints {
  double shoulder = 0, elbow = 0, wrist = 0, lift = 0;
};
inline constexpr Vec3 kBase = {0, 0.42, 0};
inline constexpr double kUpperArm = 0.36, kForearm = 0.36;
[[nodiscard]] Joints joints_of(const World& world);

/// The angle brought to [-pi/4, pi/4]: blocks and the hand look the same after a quarter turn.
[[nodiscard]] double quarter_turn(double angle);

}  // namespace gato::env::blocks
