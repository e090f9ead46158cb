#include "env/grid/grid_expert.h"

#include <algorithm>
#include <deque>

namespace gato::env::grid {

namespace {

size_t pose_index(const Pose& pose) { return World::index(pose.position) * 4 + static_cast<size_t>(pose.direction); }

bool sees_something_new(const World& world, const Pose& pose) {
  const auto cells = cells_in_view(pose);
  return std::any_of(cells.begin(), cells.end(), [&](Position p) { return world.inside(p) && !world.seen_at(p); });
}

struct Visit {
  Pose pose;
  int32_t first_action;  // of the way here; -1 at the start
};

}  // namespace

int32_t expert_action(const World& world) {
  const bool goal_known = world.seen_at(world.goal);
  if (goal_known && in_front(world.agent) == world.goal) return kPickUpAction;
  std::array<bool, kMaxSide * kMaxSide * 4> visited{};
  std::deque<Visit> open = {{world.agent, -1}};
  visited[pose_index(world.agent)] = true;
  while (!open.empty()) {
    const Visit visit = open.front();
    open.pop_front();
    const bool arrived = goal_known ? in_front(visit.pose) == world.goal : sees_something_new(world, visit.pose);
    if (arrived && visit.first_action >= 0) return visit.first_action;
    // Right, forward, left: the order decides between ways of equal length, so that labels are consistent.
    for (const int32_t action : {kTurnRight, kForward, kTurnLeft}) {
      const Pose next = moved(world, visit.pose, action);
      if (visited[pose_index(next)]) continue;
      visited[pose_index(next)] = true;
      open.push_back({next, visit.first_action < 0 ? action : visit.first_action});
    }
  }
  return kTurnRight;  // nothing left to find: only where the goal is walled in, which make_world rules out
}

}  // namespace gato::env::grid
