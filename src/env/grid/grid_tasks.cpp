#include <utility>

#include "env/grid/grid_drawing.h"
#include "env/grid/grid_expert.h"
#include "env/grid/grid_world.h"
#include "env/native.h"
#include "env/snapshot.h"
#include "gato/core/error.h"
#include "gato/env/fields.h"

namespace gato::env {

namespace {

using grid::Mission;
using grid::World;

struct Naming {
  const char *id, *description;
};

Naming naming_of(Mission mission) {
  switch (mission) {
    case Mission::kGoTo:
      return {"grid/go_to", "Walk to the named object in a room of which little is in view, and face it."};
    case Mission::kPickUp:
      return {"grid/pick_up", "Walk to the named object in a room of which little is in view, face it and pick it up."};
    case Mission::kOpen:
      return {"grid/open", "Find the named door in the walls of a room of which little is in view, and open it."};
    case Mission::kUnlock:
      return {"grid/unlock",
              "Find the key of the named door's colour in a room of which little is in view, fetch it, and open the "
              "door, which is locked."};
    case Mission::kPutNext:
      return {"grid/put_next",
              "Find the first named object in a room of which little is in view, and put it down beside the second."};
  }
  return {"", ""};
}

TaskSpec make_spec(Mission mission) {
  TaskSpec spec;
  spec.id = naming_of(mission).id;
  spec.description = naming_of(mission).description;
  const bool things = grid::handles_things(mission);
  spec.observation = {text_field("mission"),
                      discrete_field("view", things ? grid::kCellValuesWithDoors : grid::kCellValues,
                                     {grid::kViewSide, grid::kViewSide})};
  if (things) spec.observation.push_back(discrete_field("carrying", grid::kCellValues));
  // Turn left, turn right, forward, pick up, drop, toggle; as many of them as the mission has.
  spec.action = {discrete_field("move", grid::num_actions(mission))};
  spec.partial_view = true;
  spec.max_steps = grid::max_steps(mission);
  return spec;
}

class GridEnvironment final : public Environment {
 public:
  explicit GridEnvironment(Mission mission) : spec_(make_spec(mission)), mission_(mission) {}

  [[nodiscard]] const TaskSpec& spec() const override { return spec_; }
  [[nodiscard]] const World& world() const { return world_; }

  StepValues reset(uint64_t seed) override {
    world_ = grid::make_world(mission_, seed);
    return observe();
  }

  StepResult step(const StepValues& action) override {
    check_action(spec_, action);
    StepResult result;
    const bool fulfilled = grid::advance(world_, action[0].discrete[0]);
    result.observation = observe();
    result.terminated = fulfilled;
    result.truncated = world_.over && !fulfilled;
    if (fulfilled) result.reward = grid::reward_of_success(world_);
    if (world_.over) result.success = fulfilled;
    return result;
  }

  std::optional<Image> frame() override { return grid::draw_world(world_); }
  [[nodiscard]] std::optional<std::string> snapshot() const override { return pack_snapshot(spec_.id, world_); }
  void restore(const std::string& snapshot) override { world_ = unpack_snapshot<World>(spec_.id, snapshot); }

 private:
  [[nodiscard]] StepValues observe() const {
    StepValues observation(spec_.observation.size());
    observation[0].text = grid::mission_text(world_);
    observation[1].discrete = grid::view_of(world_);
    if (observation.size() > 2) observation[2].discrete = {world_.carrying};
    return observation;
  }

  TaskSpec spec_;
  Mission mission_;
  World world_;
};

class GridExpert final : public Expert {
 public:
  explicit GridExpert(const GridEnvironment& environment) : environment_(environment) {}

  StepValues act() override {
    StepValues action(1);
    action[0].discrete = {grid::expert_action(environment_.world())};
    return action;
  }

 private:
  const GridEnvironment& environment_;
};

TaskEntry make_entry(Mission mission) {
  TaskEntry entry;
  entry.id = make_spec(mission).id;
  entry.make = [mission] { return std::make_unique<GridEnvironment>(mission); };
  entry.make_expert = [](Environment& environment) -> std::unique_ptr<Expert> {
    const auto* own = dynamic_cast<GridEnvironment*>(&environment);
    GATO_CHECK(own != nullptr, "the grid expert was given an environment of ", environment.spec().id);
    return std::make_unique<GridExpert>(*own);
  };
  return entry;
}

}  // namespace

std::vector<TaskEntry> grid_tasks() {
  std::vector<TaskEntry> tasks;
  for (const Mission mission :
       {Mission::kGoTo, Mission::kPickUp, Mission::kOpen, Mission::kUnlock, Mission::kPutNext}) {
    tasks.push_back(make_entry(mission));
  }
  return tasks;
}

}  // namespace gato::env
