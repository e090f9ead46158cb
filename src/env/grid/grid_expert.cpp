#include "env/grid/grid_expert.h"

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <functional>
#include <optional>

namespace gato::env::grid {

namespace {

size_t pose_index(const Pose& pose) { return World::index(pose.position) * 4 + static_cast<size_t>(pose.direction); }

bool sees_something_new(const World& world, const Pose& pose) {
  const auto cells = cells_in_view(pose);
  return std::any_of(cells.begin(), cells.end(), [&](Position p) { return world.inside(p) && !world.seen_at(p); });
}

bool is_beside(Position a, Position b) { return std::abs(a.x - b.x) + std::abs(a.y - b.y) == 1; }

/// What the searcher wants to face next, and what it does then.
struct Wish {
  std::function<bool(Position)> wanted;  ///< Whether facing this cell will do; only asked for cells inside.
  int32_t action = kPickUpAction;
};

Wish face(Position place, int32_t action) {
  return {[place](Position front) { return front == place; }, action};
}

/// What is carried goes on a free cell that is known, where it stands before no door that is needed.
Wish put_down_anywhere(const World& world) {
  return {[&world](Position front) {
            const bool before_door = is_door(world.goal_object) && is_beside(front, world.goal);
            return world.at(front) == kEmpty && world.seen_at(front) && !before_door;
          },
          kDrop};
}

Wish put_down_beside(const World& world, Position place) {
  return {[&world, place](Position front) { return world.at(front) == kEmpty && is_beside(front, place); }, kDrop};
}

/// The next part of a mission where things are handled; nothing while what it needs has not been seen.
std::optional<Wish> wish_of_things(const World& world) {
  const auto when_known = [&](Position place, const Wish& wish) {
    return world.seen_at(place) ? std::optional(wish) : std::nullopt;
  };
  if (world.mission == Mission::kOpen) return when_known(world.goal, face(world.goal, kToggle));
  const bool unlocks = world.mission == Mission::kUnlock;
  const Cell needed = unlocks ? world.other_object : world.goal_object;
  if (world.carrying == kEmpty) {
    const Position place = unlocks ? world.other : world.goal;
    return when_known(place, face(place, kPickUpAction));
  }
  if (world.carrying != needed) return put_down_anywhere(world);  // taken by mistake
  if (unlocks) return when_known(world.goal, face(world.goal, kToggle));
  return when_known(world.other, put_down_beside(world, world.other));
}

std::optional<Wish> next_wish(const World& world) {
  if (handles_things(world.mission)) return wish_of_things(world);
  return world.seen_at(world.goal) ? std::optional(face(world.goal, kPickUpAction)) : std::nullopt;
}

struct Visit {
  Pose pose;
  int32_t first_action;  // of the way here; -1 at the start
};

}  // namespace

int32_t expert_action(const World& world) {
  const std::optional<Wish> wish = next_wish(world);
  const auto granted = [&](const Pose& pose) {
    const Position front = in_front(pose);
    return world.inside(front) && wish->wanted(front);
  };
  if (wish && granted(world.agent)) return wish->action;
  std::array<bool, kMaxSide * kMaxSide * 4> visited{};
  std::deque<Visit> open = {{world.agent, -1}};
  visited[pose_index(world.agent)] = true;
  while (!open.empty()) {
    const Visit visit = open.front();
    open.pop_front();
    const bool arrived = wish ? granted(visit.pose) : sees_something_new(world, visit.pose);
    if (arrived && visit.first_action >= 0) return visit.first_action;
    // Right, forward, left: the order decides between ways of equal length, so that labels are consistent.
    for (const int32_t action : {kTurnRight, kForward, kTurnLeft}) {
      const Pose next = moved(world, visit.pose, action);
      if (visited[pose_index(next)]) continue;
      visited[pose_index(next)] = true;
      open.push_back({next, visit.first_action < 0 ? action : visit.first_action});
    }
  }
  return kTurnRight;  // nothing left to find: only where the way is blocked, which make_world rules out, by things
                      // dropped badly
}

}  // namespace gato::env::grid
