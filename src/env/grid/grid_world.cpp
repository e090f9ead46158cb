#include "env/grid/grid_world.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/core/text.h"

namespace gato::env::grid {

namespace {

constexpr std::array<Position, 4> kStep = {{{0, -1}, {1, 0}, {0, 1}, {-1, 0}}};

void build_walls(World& world) {
  for (int i = 0; i < world.side; ++i) {
    for (const Position p : {Position{i, 0}, {i, world.side - 1}, {0, i}, {world.side - 1, i}}) {
      world.cells[World::index(p)] = kWall;
    }
  }
}

std::vector<Position> inner_cells(int side) {
  std::vector<Position> cells;
  for (int x = 1; x < side - 1; ++x) {
    for (int y = 1; y < side - 1; ++y) cells.push_back({x, y});
  }
  return cells;
}

/// Cells that the agent can walk to.
std::array<bool, kMaxSide * kMaxSide> walkable_cells(const World& world) {
  std::array<bool, kMaxSide * kMaxSide> visited{};
  std::vector<Position> open = {world.agent.position};
  visited[World::index(world.agent.position)] = true;
  while (!open.empty()) {
    const Position from = open.back();
    open.pop_back();
    for (const Position step : kStep) {
      const Position to{from.x + step.x, from.y + step.y};
      if (world.at(to) != kEmpty || visited[World::index(to)]) continue;
      visited[World::index(to)] = true;
      open.push_back(to);
    }
  }
  return visited;
}

/// Whether one of the cells beside `place` is set.
bool any_beside(const World& world, Position place, const std::array<bool, kMaxSide * kMaxSide>& cells) {
  return std::any_of(kStep.begin(), kStep.end(), [&](Position step) {
    const Position beside{place.x + step.x, place.y + step.y};
    return world.inside(beside) && cells[World::index(beside)];
  });
}

bool are_neighbours(Position a, Position b) { return std::abs(a.x - b.x) + std::abs(a.y - b.y) == 1; }

std::string name_of(Cell thing) {
  if (is_door(thing)) return cat(kColors[static_cast<size_t>(door_color(thing))], " door");
  return cat(kColors[static_cast<size_t>(color_of(thing))], " ", kKinds[static_cast<size_t>(kind_of(thing))]);
}

void pick_up(World& world, Cell& front) {
  if (world.carrying != kEmpty || !is_object(front)) return;
  world.carrying = front;
  front = kEmpty;
}

void drop(World& world, Cell& front) {
  if (world.carrying == kEmpty || front != kEmpty) return;
  if (world.carrying == world.goal_object) world.goal = in_front(world.agent);
  if (world.carrying == world.other_object) world.other = in_front(world.agent);
  front = world.carrying;
  world.carrying = kEmpty;
}

void toggle(const World& world, Cell& front) {
  if (!is_door(front)) return;
  const int color = door_color(front);
  const Door state = door_state(front);
  if (state == Door::kLocked && world.carrying != key_of(color)) return;
  front = door_cell(state == Door::kOpen ? Door::kClosed : Door::kOpen, color);
}

void handle(World& world, int32_t action) {
  const Position place = in_front(world.agent);
  if (!world.inside(place)) return;
  Cell& front = world.cells[World::index(place)];
  if (action == kPickUpAction) pick_up(world, front);
  if (action == kDrop) drop(world, front);
  if (action == kToggle) toggle(world, front);
}

void mark_view(World& world) {
  for (const Position p : cells_in_view(world.agent)) {
    if (world.inside(p)) world.seen[World::index(p)] = true;
  }
}

bool faces_goal(const World& world) { return in_front(world.agent) == world.goal; }

/// Whether the mission is fulfilled after `action`.
bool is_fulfilled(const World& world, int32_t action) {
  switch (world.mission) {
    case Mission::kGoTo:
      return faces_goal(world);
    case Mission::kPickUp:
      return faces_goal(world) && action == kPickUpAction;
    case Mission::kOpen:
    case Mission::kUnlock:
      return door_state(world.at(world.goal)) == Door::kOpen;
    case Mission::kPutNext:
      return world.carrying != world.goal_object && world.carrying != world.other_object &&
             are_neighbours(world.goal, world.other);
  }
  return false;
}

/// Whether a cell beside the second object is free and can be faced from a cell that can be walked to.
bool has_place_to_put(const World& world, std::array<bool, kMaxSide * kMaxSide> walkable) {
  for (const Position step : kStep) {
    const Position place{world.other.x + step.x, world.other.y + step.y};
    if (world.at(place) == kEmpty && walkable[World::index(place)] && any_beside(world, place, walkable)) return true;
  }
  return false;
}

bool is_well_posed(const World& world) {
  const auto walkable = walkable_cells(world);
  const bool reachable = any_beside(world, world.goal, walkable);
  switch (world.mission) {
    case Mission::kGoTo:
      return reachable && !faces_goal(world);
    case Mission::kPickUp:
    case Mission::kOpen:
      return reachable;
    case Mission::kUnlock:
      return reachable && any_beside(world, world.other, walkable);
    case Mission::kPutNext:
      return reachable && !are_neighbours(world.goal, world.other) && has_place_to_put(world, walkable);
  }
  return false;
}

/// Doors of different colours in `count` of the four walls, the first one locked or not; the cells before them, which
/// stay free, are returned. The first door is the goal.
std::vector<Position> add_doors(World& world, int64_t count, bool locked, Rng& rng) {
  std::vector<int> walls = {0, 1, 2, 3}, colors = {0, 1, 2, 3, 4, 5};
  rng.shuffle(walls);
  rng.shuffle(colors);
  std::vector<Position> kept_free;
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    const int along = static_cast<int>(1 + rng.below(world.side - 2)), last = world.side - 1;
    const std::array<Position, 4> places = {{{along, 0}, {last, along}, {along, last}, {0, along}}};
    const Position place = places[static_cast<size_t>(walls[i])], outward = kStep[static_cast<size_t>(walls[i])];
    const Cell door = door_cell(i == 0 && locked ? Door::kLocked : Door::kClosed, colors[i]);
    world.cells[World::index(place)] = door;
    kept_free.push_back({place.x - outward.x, place.y - outward.y});
    if (i > 0) continue;
    world.goal = place;
    world.goal_object = door;
  }
  return kept_free;
}

/// Rooms with doors (to open and to unlock), or with two objects to bring together.
World random_world_of_things(Mission mission, Rng& rng) {
  World world;
  world.mission = mission;
  world.side = static_cast<int32_t>(7 + rng.below(3));
  build_walls(world);
  std::vector<Position> kept_free;
  if (mission != Mission::kPutNext) {
    kept_free = add_doors(world, mission == Mission::kOpen ? 2 + rng.below(3) : 1 + rng.below(2),
                          mission == Mission::kUnlock, rng);
  }
  std::vector<Position> cells = inner_cells(world.side);
  std::erase_if(cells, [&](Position p) { return std::find(kept_free.begin(), kept_free.end(), p) != kept_free.end(); });
  rng.shuffle(cells);
  std::vector<Cell> objects(kColors.size() * kKinds.size());
  std::iota(objects.begin(), objects.end(), kFirstObject);
  rng.shuffle(objects);
  if (mission == Mission::kUnlock) {  // the key is among them, as the second
    std::swap(*std::find(objects.begin(), objects.end(), key_of(door_color(world.goal_object))), objects[1]);
  }
  for (size_t i = 0; i < kObjects; ++i) world.cells[World::index(cells[i])] = objects[i];
  if (mission == Mission::kPutNext) {
    world.goal = cells[0];
    world.goal_object = objects[0];
  }
  if (mission != Mission::kOpen) {
    world.other = cells[1];
    world.other_object = objects[1];
  }
  world.agent = {cells[kObjects], static_cast<int>(rng.below(4))};
  return world;
}

World random_world(Mission mission, Rng& rng) {
  if (handles_things(mission)) return random_world_of_things(mission, rng);
  World world;
  world.mission = mission;
  world.side = static_cast<int32_t>(7 + rng.below(3));
  build_walls(world);
  std::vector<Position> cells = inner_cells(world.side);
  rng.shuffle(cells);
  std::vector<Cell> objects(kColors.size() * kKinds.size());
  std::iota(objects.begin(), objects.end(), kFirstObject);
  rng.shuffle(objects);
  for (size_t i = 0; i < kObjects; ++i) world.cells[World::index(cells[i])] = objects[i];
  world.goal = cells[0];
  world.goal_object = objects[0];
  world.agent = {cells[kObjects], static_cast<int>(rng.below(4))};
  return world;
}

}  // namespace

World make_world(Mission mission, uint64_t seed) {
  Rng rng(mix_seed(seed, {hash_name("grid world")}));
  World world = random_world(mission, rng);
  while (!is_well_posed(world)) world = random_world(mission, rng);
  mark_view(world);
  return world;
}

std::string mission_text(const World& world) {
  switch (world.mission) {
    case Mission::kGoTo:
      return cat("go to the ", name_of(world.goal_object));
    case Mission::kPickUp:
      return cat("pick up the ", name_of(world.goal_object));
    case Mission::kOpen:
      return cat("open the ", name_of(world.goal_object));
    case Mission::kUnlock:
      return cat("unlock the ", name_of(world.goal_object));
    case Mission::kPutNext:
      return cat("put the ", name_of(world.goal_object), " next to the ", name_of(world.other_object));
  }
  return "";
}

Position in_front(const Pose& pose) {
  const Position step = kStep[static_cast<size_t>(pose.direction)];
  return {pose.position.x + step.x, pose.position.y + step.y};
}

Pose moved(const World& world, const Pose& pose, int32_t action) {
  Pose next = pose;
  if (action == kTurnLeft) next.direction = (pose.direction + 3) % 4;
  if (action == kTurnRight) next.direction = (pose.direction + 1) % 4;
  if (action == kForward && world.at(in_front(pose)) == kEmpty) next.position = in_front(pose);
  return next;
}

std::array<Position, kViewCells> cells_in_view(const Pose& pose) {
  const Position ahead = kStep[static_cast<size_t>(pose.direction)];
  const Position right = kStep[static_cast<size_t>((pose.direction + 1) % 4)];
  std::array<Position, kViewCells> cells;
  size_t next = 0;
  for (int i = kViewSide - 1; i >= 0; --i) {
    for (int j = -kViewSide / 2; j <= kViewSide / 2; ++j) {
      cells[next++] = {pose.position.x + ahead.x * i + right.x * j, pose.position.y + ahead.y * i + right.y * j};
    }
  }
  return cells;
}

std::vector<int32_t> view_of(const World& world) {
  std::vector<int32_t> view;
  view.reserve(kViewCells);
  for (const Position p : cells_in_view(world.agent)) view.push_back(world.at(p));
  return view;
}

bool advance(World& world, int32_t action) {
  GATO_CHECK(!world.over && world.side > 0, "a grid world was stepped before its start or after its end");
  ++world.steps;
  world.agent = moved(world, world.agent, action);
  if (handles_things(world.mission)) handle(world, action);
  mark_view(world);
  const bool fulfilled = is_fulfilled(world, action);
  world.over = fulfilled || world.steps >= max_steps(world.mission);
  return fulfilled;
}

double reward_of_success(const World& world) {
  return 1.0 - 0.5 * static_cast<double>(world.steps) / max_steps(world.mission);
}

}  // namespace gato::env::grid
