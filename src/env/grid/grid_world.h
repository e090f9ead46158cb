#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

/// The grid world behind the tasks of domain grid: a walled square room with coloured objects, an agent that turns and
/// walks, a mission in words, and a view of the 5 x 5 cells in front.
namespace gato::env::grid {

inline constexpr int kMaxSide = 9;  ///< Cells per side, walls included: 7, 8 or 9.
inline constexpr int kViewSide = 5;
inline constexpr int kViewCells = kViewSide * kViewSide;
inline constexpr int kMaxSteps = 40;
inline constexpr int kObjects = 4;
inline constexpr std::array<const char*, 6> kColors = {"red", "green", "blue", "yellow", "purple", "grey"};
inline constexpr std::array<const char*, 3> kKinds = {"ball", "key", "box"};

/// What a cell holds, as the agent sees it: 0 nothing, 1 wall, 2 + 6 x kind + colour an object.
using Cell = int8_t;
inline constexpr Cell kEmpty = 0, kWall = 1, kFirstObject = 2;
inline constexpr int kCellValues = kFirstObject + static_cast<int>(kColors.size() * kKinds.size());

[[nodiscard]] constexpr int color_of(Cell object) { return (object - kFirstObject) % static_cast<int>(kColors.size()); }
[[nodiscard]] constexpr int kind_of(Cell object) { return (object - kFirstObject) / static_cast<int>(kColors.size()); }

struct Position {
  int x = 0, y = 0;  ///< y grows downwards.
  bool operator==(const Position&) const = default;
};

/// Where the agent stands and looks: direction 0 up, 1 right, 2 down, 3 left.
struct Pose {
  Position position;
  int direction = 0;
  bool operator==(const Pose&) const = default;
};

enum class Mission : int32_t { kGoTo = 0, kPickUp = 1 };

enum Action : int32_t { kTurnLeft = 0, kTurnRight = 1, kForward = 2, kPickUpAction = 3 };

struct World {
  Mission mission = Mission::kGoTo;
  int32_t side = 0;
  std::array<Cell, kMaxSide * kMaxSide> cells{};
  std::array<bool, kMaxSide * kMaxSide> seen{};  ///< Cells that have been in view since the start.
  Pose agent;
  Position goal;
  Cell goal_object = kEmpty;
  int32_t steps = 0;
  bool over = false;

  [[nodiscard]] bool inside(Position p) const { return p.x >= 0 && p.x < side && p.y >= 0 && p.y < side; }
  [[nodiscard]] static size_t index(Position p) { return static_cast<size_t>(p.y * kMaxSide + p.x); }
  [[nodiscard]] Cell at(Position p) const { return inside(p) ? cells[index(p)] : kWall; }
  [[nodiscard]] bool seen_at(Position p) const { return seen[index(p)]; }  ///< For cells inside.
};

/// The world of `seed`, its first view already marked as seen. The goal can be reached, and is not reached yet.
[[nodiscard]] World make_world(Mission mission, uint64_t seed);

/// "go to the red ball".
[[nodiscard]] std::string mission_text(const World& world);

[[nodiscard]] Position in_front(const Pose& pose);

/// The pose after a turn, or after a step forward where the cell in front is free.
[[nodiscard]] Pose moved(const World& world, const Pose& pose, int32_t action);

/// The cells in view, farthest row first, left to right as the agent sees it; the agent stands at [22]. Some may lie
/// outside.
[[nodiscard]] std::array<Position, kViewCells> cells_in_view(const Pose& pose);

/// What the agent sees: one Cell per cell in view, walls outside the room.
[[nodiscard]] std::vector<int32_t> view_of(const World& world);

/// Carries out `action`, marks what is seen, and says whether the mission is fulfilled now (then the world is over).
bool advance(World& world, int32_t action);

/// 1 - t / (2 kMaxSteps): what fulfilling the mission after `world.steps` steps is worth.
[[nodiscard]] double reward_of_success(const World& world);

}  // namespace gato::env::grid
