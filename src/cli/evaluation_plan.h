#pragma once
#include <string>

#include "gato/env/suite.h"
#include "gato/run/evaluation_plan.h"

namespace gato::cli {

/// The tasks of a suite as a plan has them: its name, with what makes it another evaluation ("-int8" for weights other
/// than `trained_weights`, "-prompted" for demonstrations in front), tasks with rollouts, and texts. `rollouts` > 0
/// overrides the suite's. ConfigError for patterns that match no task.
[[nodiscard]] run::PlannedSuite planned_suite(const env::Suite& suite, const run::EvaluationConfig& config,
                                              const std::string& trained_weights);

/// The plan of a run of `last_step` steps; loads the suites. ConfigError for suites that are not there.
[[nodiscard]] run::EvaluationPlan evaluation_plan(const run::EvaluationConfig& config, int64_t last_step,
                                                  const std::string& trained_weights);

}  // namespace gato::cli
