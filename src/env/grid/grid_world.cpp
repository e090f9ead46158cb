#include "env/grid/grid_world.h"

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

/// Whether the agent can walk to a cell beside the goal.
bool goal_is_reachable(const World& world) {
  std::array<bool, kMaxSide * kMaxSide> visited{};
  std::vector<Position> open = {world.agent.position};
  visited[World::index(world.agent.position)] = true;
  while (!open.empty()) {
    const Position from = open.back();
    open.pop_back();
    for (const Position step : kStep) {
      const Position to{from.x + step.x, from.y + step.y};
      if (to == world.goal) return true;
      if (world.at(to) != kEmpty || visited[World::index(to)]) continue;
      visited[World::index(to)] = true;
      open.push_back(to);
    }
  }
  return false;
}

void mark_view(World& world) {
  for (const Position p : cells_in_view(world.agent)) {
    if (world.inside(p)) world.seen[World::index(p)] = true;
  }
}

bool faces_goal(const World& world) { return in_front(world.agent) == world.goal; }

World random_world(Mission mission, Rng& rng) {
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
  while (!goal_is_reachable(world) || (mission == Mission::kGoTo && faces_goal(world))) {
    world = random_world(mission, rng);
  }
  mark_view(world);
  return world;
}

std::string mission_text(const World& world) {
  const char* verb = world.mission == Mission::kPickUp ? "pick up" : "go to";
  return cat(verb, " the ", kColors[static_cast<size_t>(color_of(world.goal_object))], " ",
             kKinds[static_cast<size_t>(kind_of(world.goal_object))]);
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
  mark_view(world);
  const bool fulfilled = faces_goal(world) && (world.mission == Mission::kGoTo || action == kPickUpAction);
  world.over = fulfilled || world.steps >= kMaxSteps;
  return fulfilled;
}

double reward_of_success(const World& world) {
  return 1.0 - 0.5 * static_cast<double>(world.steps) / static_cast<double>(kMaxSteps);
}

}  // namespace gato::env::grid
