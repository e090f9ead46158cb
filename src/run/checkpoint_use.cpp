#include "gato/run/checkpoint_use.h"

#include <cmath>
#include <optional>

#include "gato/run/metrics.h"
#include "gato/run/results.h"

namespace gato::run {
namespace {

std::optional<double> value_of(const Summary& summary, const std::string& what) {
  if (what == "mean_score") return summary.mean_score;
  if (what == "tasks_at_50") return static_cast<double>(summary.tasks_at_50);
  const auto task = summary.tasks.find(what);
  return task == summary.tasks.end() ? std::nullopt : task->second.score;
}

}  // namespace

std::map<int64_t, double> scores_by_step(const RunFolder& folder, const std::string& name, bool want_max) {
  std::map<int64_t, double> scores;
  const auto add = [&](int64_t step, double value) {
    if (std::isfinite(value)) scores[step] = want_max ? value : -value;
  };
  const size_t colon = name.find(':');
  if (colon == std::string::npos) {
    for (const auto& [step, value] : read_metrics(folder.metrics_path()).series(name)) add(step, value);
    return scores;
  }
  for (const ScoreLine& line : read_scores(folder.scores_path())) {
    if (line.summary.suite != name.substr(0, colon)) continue;
    if (const auto value = value_of(line.summary, name.substr(colon + 1))) add(line.summary.step, *value);
  }
  return scores;
}

}  // namespace gato::run
