// An environment of one's own: recorded with its expert, trained on, evaluated. usage: custom_environment FOLDER
#include <algorithm>
#include <cmath>
#include <iostream>

#include "gato/env/collect.h"
#include "gato/env/fields.h"
#include "gato/eval/evaluate.h"
#include "gato/train/trainer.h"

using namespace gato;

namespace {
/// A boat drifts on a line and is to be kept at its mooring by the rudder.
class Boat : public env::Environment {
 public:
  Boat() {
    spec_.id = "example/boat";
    spec_.observation = {env::continuous_field("state", 2, -2, 2)};  // position, velocity
    spec_.action = {env::continuous_field("push", 1, -1, 1)};
    spec_.max_steps = 40;
  }
  const episode::TaskSpec& spec() const override { return spec_; }
  episode::StepValues reset(uint64_t seed) override {
    Rng rng(seed);
    position_ = rng.uniform(-1, 1);
    velocity_ = rng.uniform(-0.3, 0.3);
    steps_ = 0;
    return observe();
  }
  env::StepResult step(const episode::StepValues& action) override {
    const double push = std::clamp(static_cast<double>(action[0].continuous[0]), -1.0, 1.0);
    velocity_ = 0.9 * velocity_ + 0.1 * push;
    position_ = std::clamp(position_ + 0.3 * velocity_, -2.0, 2.0);
    return {observe(), std::exp(-8 * position_ * position_), false, ++steps_ == spec_.max_steps, std::nullopt};
  }
  episode::StepValues best_action() const {
    episode::StepValues action(1);
    action[0].continuous = {static_cast<float>(std::clamp(-2 * position_ - 3 * velocity_, -1.0, 1.0))};
    return action;
  }

 private:
  episode::StepValues observe() const {
    episode::StepValues values(1);
    values[0].continuous = {static_cast<float>(position_), static_cast<float>(velocity_)};
    return values;
  }
  episode::TaskSpec spec_;
  double position_ = 0, velocity_ = 0;
  int64_t steps_ = 0;
};

struct Skipper : env::Expert {
  explicit Skipper(const Boat& boat) : boat_(boat) {}
  episode::StepValues act() override { return boat_.best_action(); }
  const Boat& boat_;
};

}  // namespace

int main(int argc, char** argv) {
  const Path folder = argc > 1 ? argv[1] : "boat";
  env::register_task({"example/boat", [] { return std::make_unique<Boat>(); },
                      [](env::Environment& boat) { return std::make_unique<Skipper>(dynamic_cast<Boat&>(boat)); }});
  env::Suite suite{"boat", {{.pattern = "example/boat", .episodes = 200, .noise = {0, 0.4}}}, {}};
  env::collect(suite, {.out = folder / "data"});

  train::TrainingConfig config;
  config.run.dir = (folder / "run").string();
  config.data = {
      .datasets = {(folder / "data").string()}, .row_tokens = 64, .schedule = {{0, {{.tasks = "example/*"}}}}};
  config.model = {
      .layers = 2, .width = 64, .heads = 2, .head_dim = 32, .hidden = 256, .patch_channels = 8, .stochastic_depth = 0};
  config.optimizer = {.learning_rate = 3e-3, .warmup_steps = 20};
  config.train = {.steps = 500, .batch_rows = 8, .soft_target_bins = 8, .checkpoint_every = 500};
  train::train(config, {argv, argv + argc});
  std::cout << eval::summary_table(eval::evaluate({.checkpoint = config.run.dir, .suite = suite}).summary);
}
