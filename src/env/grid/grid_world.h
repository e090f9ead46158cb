#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

/// The grid world behind the tasks of domain grid: a walled square room with coloured objects and, for some missions,
/// doors in its walls; an agent that turns, walks and handles what is in front of it; a mission in words; and a view of
/// the 5 x 5 cells in front.
namespace gato::env::grid {

inline constexpr int kMaxSide = 9;  ///< Cells per side, walls included: 7, 8 or 9.
inline constexpr int kViewSide = 5;
inline constexpr int kViewCells = kViewSide * kViewSide;
inline constexpr int kMaxSteps = 40;  ///< Of missions that ask for one thing; see max_steps().
inline constexpr int kObjects = 4;
inline constexpr std::array<const char*, 6> kColors = {"red", "green", "blue", "yellow", "purple", "grey"};
inline constexpr std::array<const char*, 3> kKinds = {"ball", "key", "box"};

inline constexpr int kKeyKind = 1;  ///< Index into kKinds.

/// What a cell holds, as the agent sees it: 0 nothing, 1 wall, 2 + 6 x kind + colour an object, 20 + 6 x state + colour
/// a door.
using Cell = int8_t;
inline constexpr Cell kEmpty = 0, kWall = 1, kFirstObject = 2;
inline constexpr int kCellValues = kFirstObject + static_cast<int>(kColors.size() * kKinds.size());
inline constexpr Cell kFirstDoor = kCellValues;
inline constexpr int kCellValuesWithDoors = kCellValues + 3 * static_cast<int>(kColors.size());
enum class Door : int8_t { kOpen = 0, kClosed = 1, kLocked = 2 };

[[nodiscard]] constexpr int color_of(Cell object) { return (object - kFirstObject) % static_cast<int>(kColors.size()); }
[[nodiscard]] constexpr int kind_of(Cell object) { return (object - kFirstObject) / static_cast<int>(kColors.size()); }

[[nodiscard]] constexpr Cell key_of(int color) {
  return static_cast<Cell>(kFirstObject + static_cast<int>(kColors.size()) * kKeyKind + color);
}
[[nodiscard]] constexpr Cell door_cell(Door state, int color) {
  return static_cast<Cell>(kFirstDoor + static_cast<int>(kColors.size()) * static_cast<int>(state) + color);
}
[[nodiscard]] constexpr bool is_object(Cell cell) { return cell >= kFirstObject && cell < kFirstDoor; }
[[nodiscard]] constexpr bool is_door(Cell cell) { return cell >= kFirstDoor; }
[[nodiscard]] constexpr int door_color(Cell door) { return (door - kFirstDoor) % static_cast<int>(kColors.size()); }
[[nodiscard]] constexpr Door door_state(Cell door) {
  return static_cast<Door>((door - kFirstDoor) / static_cast<int>(kColors.size()));
}

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

/// Go to or pick up an object; open a door; fetch its key and open a locked one; put an object next to another.
enum class Mission : int32_t { kGoTo = 0, kPickUp = 1, kOpen = 2, kUnlock = 3, kPutNext = 4 };

enum Action : int32_t { kTurnLeft = 0, kTurnRight = 1, kForward = 2, kPickUpAction = 3, kDrop = 4, kToggle = 5 };

/// Whether the agent can carry things and there may be doors: all missions but go to and pick up.
[[nodiscard]] constexpr bool handles_things(Mission mission) { return mission >= Mission::kOpen; }
[[nodiscard]] constexpr int num_actions(Mission mission) {
  return handles_things(mission) ? 6 : (mission == Mission::kPickUp ? 4 : 3);
}
[[nodiscard]] constexpr int max_steps(Mission mission) {
  return mission >= Mission::kUnlock ? 2 * kMaxSteps : kMaxSteps;
}

struct World {
  Mission mission = Mission::kGoTo;
  int32_t side = 0;
  std::array<Cell, kMaxSide * kMaxSide> cells{};
  std::array<bool, kMaxSide * kMaxSide> seen{};  ///< Cells that have been in view since the start.
  Pose agent;
  Position goal;               ///< Of the object or door that the mission names; out of date while it is carried.
  Cell goal_object = kEmpty;   ///< The object; for doors the door as it was at the start.
  Position other;              ///< To put next: the object to put it next to. To unlock: the key. Likewise.
  Cell other_object = kEmpty;  ///< kEmpty where the mission has no second thing.
  Cell carrying = kEmpty;
  int32_t steps = 0;
  bool over = false;

  [[nodiscard]] bool inside(Position p) const { return p.x >= 0 && p.x < side && p.y >= 0 && p.y < side; }
  [[nodiscard]] static size_t index(Position p) { return static_cast<size_t>(p.y * kMaxSide + p.x); }
  [[nodiscard]] Cell at(Position p) const { return inside(p) ? cells[index(p)] : kWall; }
  [[nodiscard]] bool seen_at(Position p) const { return seen[index(p)]; }  ///< For cells inside.
};

/// The world of `seed`, its first view already marked as seen. The goal can be reached, and is not reached yet.
[[nodiscard]] World make_world(Mission mission, uint64_t seed);

/// "go to the red ball", "unlock the green door", "put the blue box next to the grey key".
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
/// Where things are handled: pick up takes the object in front with free hands, drop puts what is carried on the free
/// cell in front, toggle opens or closes the door in front, a locked one with its key in hand. What cannot be done does
/// nothing.
bool advance(World& world, int32_t action);

/// 1 - t / (2 max_steps): what fulfilling the mission after `world.steps` steps is worth.
[[nodiscard]] double reward_of_success(const World& world);

}  // namespace gato::env::grid
