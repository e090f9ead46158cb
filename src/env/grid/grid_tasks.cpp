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

TaskSpec make_spec(Mission mission) {
  TaskSpec spec;
  const bool pick_up = mission == Mission::kPickUp;
  spec.id = pick_up ? "grid/pick_up" : "grid/go_to";
  spec.description = pick_up ? "Walk to the named object in a room of which little is in view, face it and pick it up."
                             : "Walk to the named object in a room of which little is in view, and face it.";
  spec.observation = {text_field("mission"),
                      discrete_field("view", grid::kCellValues, {grid::kViewSide, grid::kViewSide})};
  spec.action = {discrete_field("move", pick_up ? 4 : 3)};  // turn left, turn right, forward, pick up
  spec.partial_view = true;
  spec.max_steps = grid::kMaxSteps;
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
    StepValues observation(2);
    observation[0].text = grid::mission_text(world_);
    observation[1].discrete = grid::view_of(world_);
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

std::vector<TaskEntry> grid_tasks() { return {make_entry(Mission::kGoTo), make_entry(Mission::kPickUp)}; }

}  // namespace gato::env
