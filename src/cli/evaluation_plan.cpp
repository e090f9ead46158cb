#include "evaluation_plan.h"

#include "gato/core/config.h"

namespace gato::cli {
namespace {

const char* rule_name(env::Decoding decoding) {
  for (const auto& [name, value] : config_enum(static_cast<const env::Decoding*>(nullptr))) {
    if (value == decoding) return name;
  }
  return "default";
}

}  // namespace

run::PlannedSuite planned_suite(const env::Suite& suite, const run::EvaluationConfig& config,
                                const std::string& trained_weights) {
  run::PlannedSuite planned;
  planned.name = suite.name;
  if (!config.weights.empty() && config.weights != trained_weights) planned.name += "-" + config.weights;
  if (config.prompt != "none") planned.name += "-prompted";
  for (const auto& [task, settings] : env::resolve_tasks(suite)) {
    if (settings.rollouts == 0) continue;
    const int64_t rollouts = config.rollouts > 0 ? config.rollouts : settings.rollouts;
    planned.tasks.push_back({task, rollouts, rule_name(settings.decoding), settings.temperature, settings.top_p});
  }
  for (const env::SuiteText& text : suite.texts) planned.texts.push_back(text.name);
  return planned;
}

run::EvaluationPlan evaluation_plan(const run::EvaluationConfig& config, int64_t last_step,
                                    const std::string& trained_weights) {
  run::EvaluationPlan plan;
  plan.every = config.every;
  plan.last_step = last_step;
  plan.rollouts_per_job = config.rollouts_per_job;
  plan.tasks_together = config.tasks_together;
  plan.settings = {
      static_cast<uint64_t>(config.seed), config.slots, config.prompt, config.weights, config.record, config.attempts};
  for (const std::string& suite : config.suites) {
    plan.suites.push_back(planned_suite(env::load_suite(suite), config, trained_weights));
  }
  return plan;
}

}  // namespace gato::cli
