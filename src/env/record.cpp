#include <algorithm>
#include <cmath>

#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/env/collect.h"

namespace gato::env {

namespace {

using episode::Column;
using episode::Episode;
using episode::FieldSpec;
using episode::Modality;

/// Disturbs the actions of one episode. Text is left alone.
class Disturber {
 public:
  Disturber(const TaskSpec& spec, const ActionNoise& noise, uint64_t seed)
      : spec_(spec), noise_(noise), random_(mix_seed(seed, {hash_name("action noise")})) {
    const auto pick = random_.below(static_cast<int64_t>(noise.levels.size()));
    level_ = noise.levels[static_cast<size_t>(pick)];
    for (const FieldSpec& field : spec.action) {
      const bool numbers = field.modality == Modality::kContinuous;
      state_.emplace_back(numbers ? static_cast<size_t>(field.num_elements()) : 0, 0.0);
    }
  }

  [[nodiscard]] StepValues disturbed(const StepValues& action) {
    StepValues executed = action;
    for (size_t i = 0; i < executed.size(); ++i) {
      const FieldSpec& field = spec_.action[i];
      if (field.modality == Modality::kContinuous) add_noise(field, state_[i], executed[i].continuous);
      if (field.modality == Modality::kDiscrete) replace_some(field, executed[i].discrete);
    }
    return executed;
  }

 private:
  /// Ornstein-Uhlenbeck noise of standard deviation 1, times the level and half the range of the element.
  void add_noise(const FieldSpec& field, std::vector<double>& state, std::vector<float>& values) {
    const double fresh = std::sqrt(1.0 - noise_.correlation * noise_.correlation);
    for (size_t e = 0; e < values.size(); ++e) {
      state[e] = noise_.correlation * state[e] + fresh * random_.normal();
      const float low = field.low_of(static_cast<int64_t>(e)), high = field.high_of(static_cast<int64_t>(e));
      const double half_range = (static_cast<double>(high) - static_cast<double>(low)) / 2;
      const double moved = static_cast<double>(values[e]) + level_ * half_range * state[e];
      values[e] = std::clamp(static_cast<float>(moved), low, high);
    }
  }

  void replace_some(const FieldSpec& field, std::vector<int32_t>& values) {
    for (int32_t& value : values) {
      const bool replaces = random_.uniform() < level_ * noise_.random_action_share;
      const auto other = static_cast<int32_t>(random_.below(field.num_values));
      if (replaces) value = other;
    }
  }

  const TaskSpec& spec_;
  const ActionNoise& noise_;
  Rng random_;
  double level_ = 0;
  std::vector<std::vector<double>> state_;  // per field and element
};

/// Whether executed actions may differ from the expert's at all.
bool disturbs(const TaskSpec& spec, const ActionNoise& noise) {
  const bool movable = std::any_of(spec.action.begin(), spec.action.end(), [](const FieldSpec& field) {
    return field.modality == Modality::kContinuous || field.modality == Modality::kDiscrete;
  });
  return movable && std::any_of(noise.levels.begin(), noise.levels.end(), [](double level) { return level > 0; });
}

void check_noise(const ActionNoise& noise) {
  GATO_CHECK(!noise.levels.empty(), "action noise without levels");
  GATO_CHECK(noise.correlation >= 0 && noise.correlation < 1, "correlation ", noise.correlation, " of action noise");
  GATO_CHECK(noise.random_action_share >= 0 && noise.random_action_share <= 1, "random action share ",
             noise.random_action_share);
}

void append_step(std::vector<Column>& columns, const std::vector<FieldSpec>& fields, const StepValues& values) {
  for (size_t i = 0; i < fields.size(); ++i) episode::append_value(columns[i], fields[i], values[i]);
}

}  // namespace

std::optional<Episode> record_episode(Environment& environment, Expert& expert, const ActionNoise& noise, uint64_t seed,
                                      const std::string& id, std::string& failure) {
  check_noise(noise);
  const TaskSpec& spec = environment.spec();
  Episode episode;
  episode.id = id;
  episode.source_agent = "expert";
  episode.seed = seed;
  episode.observation.resize(spec.observation.size());
  episode.action.resize(spec.action.size());
  const bool labelled = disturbs(spec, noise);
  if (labelled) episode.label.resize(spec.action.size());

  Disturber disturber(spec, noise, seed);
  StepValues observation = environment.reset(seed);
  expert.begin_episode();
  StepResult step;
  while (!step.done()) {
    const StepValues label = expert.act();
    const StepValues executed = disturber.disturbed(label);
    append_step(episode.observation, spec.observation, observation);
    append_step(episode.action, spec.action, executed);
    if (labelled) append_step(episode.label, spec.action, label);
    step = environment.step(executed);
    if (!step.failure.empty()) {
      failure = step.failure;
      return std::nullopt;
    }
    observation = std::move(step.observation);
    episode.reward.push_back(static_cast<float>(step.reward));
    ++episode.num_steps;
    if (spec.max_steps > 0 && episode.num_steps >= spec.max_steps && !step.done()) {
      throw DataError(cat("Task ", spec.id, ": the episode of seed ", seed, " goes on after ", spec.max_steps,
                          " steps, the limit its specification states."));
    }
  }
  episode.terminated = step.terminated;
  episode.truncated = step.truncated;
  episode.success = step.success;
  return episode;
}

}  // namespace gato::env
