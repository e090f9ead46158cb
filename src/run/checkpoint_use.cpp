#include "gato/run/checkpoint_use.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>

#include "gato/checkpoint/checkpoint.h"
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

std::set<int64_t> steps_in_queue(const RunFolder& folder) {
  std::set<int64_t> steps;
  std::error_code error;
  std::filesystem::recursive_directory_iterator entry(folder.queue_path(), error);
  for (; !error && entry != std::filesystem::recursive_directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    for (size_t at = name.find("step-"); at != std::string::npos; at = name.find("step-", at + 1)) {
      const size_t end = std::min(name.size(), name.find_first_not_of("0123456789", at + 5));
      if (const auto step = checkpoint::parse_step_name(name.substr(at, end - at))) steps.insert(*step);
    }
  }
  return steps;
}

}  // namespace gato::run
