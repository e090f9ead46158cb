#pragma once
#include <cstdint>
#include <functional>
#include <memory>

#include "gato/env/environment.h"

/// A planner for any task whose environment has snapshots and whose actions are continuous.
namespace gato::env {

/// Predictive control by sampling: before an action is chosen, many variants of the present plan are tried from the
/// present state, and the plan goes to where they earn most. A plan is a curve of actions through a few knots, so that
/// samples are smooth; it is carried over from one planning to the next.
struct PlannerOptions {
  int horizon = 40;       ///< Steps that a plan looks ahead.
  int knots = 6;          ///< Of a plan, over the horizon; straight lines lie between them.
  int samples = 24;       ///< Plans tried in each round.
  int rounds = 1;         ///< Of sampling per planning, each around the outcome of the one before.
  int replan_every = 1;   ///< Steps that are played of a plan before the next planning.
  double noise = 0.4;     ///< Standard deviation of the samples' knots, in half the actions' range.
  double discount = 1.0;  ///< Of later steps' scores.
  /// 0: the plan becomes the best sample. Above: the mean of all, weighted by exp((score - best) / (temperature x
  /// standard deviation of the scores)).
  double temperature = 0.0;
  uint64_t seed = 0;
  int threads = 1;  ///< That try plans; 0: the budget. Results do not depend on it.
  /// What a step is worth, seen after it; empty: its reward. Must be a pure function.
  std::function<double(const Environment& environment, const StepResult& result)> score = {};
};

/// An expert for `environment`, which outlives it. `make` makes further environments of the same task, in which plans
/// are tried; `environment` itself is only looked at. Deterministic in the states it sees since begin_episode() and
/// options.seed. Costs samples x rounds x horizon / replan_every steps per action. ConfigError for options outside
/// their range, ContractError for a task without snapshots or with actions that are not continuous.
[[nodiscard]] std::unique_ptr<Expert> make_planner(Environment& environment,
                                                   const std::function<std::unique_ptr<Environment>()>& make,
                                                   const PlannerOptions& options);

}  // namespace gato::env
