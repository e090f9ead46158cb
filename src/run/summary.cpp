#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/core/text.h"
#include "gato/run/confidence.h"
#include "gato/run/results.h"
#include "run/task_rollouts.h"

namespace gato::run {
namespace {

constexpr double kHalfOfExpert = 50.0;  // percent

[[noreturn]] void refuse(const TaskResult& result, const std::string& problem) {
  throw DataError(
      cat("results of ", result.task, " at ", result.checkpoint, " in suite ", result.suite, ": ", problem));
}

std::optional<double> share_of(const std::vector<RolloutRecord>& rollouts, std::optional<bool> RolloutRecord::*flag) {
  int64_t known = 0;
  int64_t yes = 0;
  for (const RolloutRecord& rollout : rollouts) {
    if (!(rollout.*flag).has_value()) continue;
    ++known;
    yes += *(rollout.*flag) ? 1 : 0;
  }
  if (known == 0) return std::nullopt;
  return static_cast<double>(yes) / static_cast<double>(known);
}

/// Wilson's interval of the success rate.
std::optional<std::pair<double, double>> success_interval(const std::vector<RolloutRecord>& rollouts) {
  int64_t known = 0, yes = 0;
  for (const RolloutRecord& rollout : rollouts) {
    known += rollout.success.has_value() ? 1 : 0;
    yes += rollout.success.value_or(false) ? 1 : 0;
  }
  if (known == 0) return std::nullopt;
  return wilson_ci95(yes, known);
}

void add_note(TaskSummary& summary, const std::string& note) {
  summary.note += (summary.note.empty() ? "" : "; ") + note;
}

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

std::vector<double> returns_of(const TaskResult& result) {
  std::vector<double> returns;
  for (const RolloutRecord& rollout : result.rollouts) returns.push_back(rollout.episode_return);
  return returns;
}

void add_returns(const TaskResult& result, TaskSummary& summary) {
  const std::vector<double> returns = returns_of(result);
  if (!returns.empty() && std::isfinite(mean_of(returns))) summary.mean_return = mean_of(returns);
  if (result.expert.episodes > 0) summary.expert_return = result.expert.mean;
  if (result.random.episodes > 0) summary.random_return = result.random.mean;
}

/// A task's line, and its score in every resample of its rollouts; empty where it has none.
struct ScoredTask {
  TaskSummary summary;
  std::vector<double> resamples;
};

void score_by_return(const TaskResult& result, ScoredTask& task) {
  TaskSummary& summary = task.summary;
  const std::vector<double> returns = returns_of(result);
  const std::string obstacle = obstacle_to_score(result);
  if (!obstacle.empty()) return add_note(summary, "no score: " + obstacle);

  const double range = result.expert.mean - result.random.mean;
  const auto score_of = [&](double mean) { return 100 * (mean - result.random.mean) / range; };
  summary.score = score_of(*summary.mean_return);
  task.resamples = bootstrap_means(returns, hash_name(result.task));
  const auto [low, high] = percentile_ci95(task.resamples);
  for (double& mean : task.resamples) mean = score_of(mean);
  if (returns.size() < 2) return add_note(summary, "no interval: one rollout");
  summary.ci95 = {score_of(low), score_of(high)};
}

void score_by_exact_match(const TaskResult& result, ScoredTask& task) {
  TaskSummary& summary = task.summary;
  if (result.rollouts.empty()) return add_note(summary, "no score: no rollouts");
  const auto trials = static_cast<int64_t>(result.rollouts.size());
  const int64_t hits = std::count_if(result.rollouts.begin(), result.rollouts.end(),
                                     [](const RolloutRecord& rollout) { return rollout.exact_match.value_or(false); });
  summary.exact_match = static_cast<double>(hits) / static_cast<double>(trials);
  summary.score = 100 * *summary.exact_match;
  const auto [low, high] = wilson_ci95(hits, trials);
  summary.ci95 = {100 * low, 100 * high};
  std::vector<double> points;
  for (const RolloutRecord& rollout : result.rollouts) points.push_back(rollout.exact_match.value_or(false) ? 100 : 0);
  task.resamples = bootstrap_means(points, hash_name(result.task));
}

ScoredTask summarise_task(const TaskRollouts& task) {
  const TaskResult result = task.played();
  ScoredTask scored;
  TaskSummary& summary = scored.summary;
  summary.scoring = result.scoring;
  summary.rollouts = static_cast<int64_t>(result.rollouts.size());
  summary.success_rate = share_of(result.rollouts, &RolloutRecord::success);
  summary.success_ci95 = success_interval(result.rollouts);
  summary.loss = result.loss;
  if (result.scoring != TaskScoring::kLoss) add_returns(result, summary);
  if (result.scoring == TaskScoring::kReturn) score_by_return(result, scored);
  if (result.scoring == TaskScoring::kExactMatch) score_by_exact_match(result, scored);
  const auto shards = static_cast<int64_t>(task.shards.size());
  const size_t failed = task.joined.rollouts.size() - result.rollouts.size();
  if (failed > 0) {
    add_note(summary,
             cat(failed, " of ", task.joined.rollouts.size(), " rollouts failed by the environment: left out"));
  }
  if (shards < result.num_shards) add_note(summary, cat("incomplete: ", shards, " of ", result.num_shards, " shards"));
  return scored;
}

void add_means(Summary& summary) {
  std::map<std::string, std::vector<double>> scores;
  for (const int64_t share : {25, 50, 75, 100}) summary.tasks_at[share] = 0;
  for (const auto& [task, line] : summary.tasks) {
    if (!line.score) continue;
    scores[domain_of(task)].push_back(*line.score);
    summary.tasks_at_50 += *line.score >= kHalfOfExpert ? 1 : 0;
    for (auto& [share, tasks] : summary.tasks_at) tasks += *line.score >= static_cast<double>(share) ? 1 : 0;
  }
  std::vector<double> domain_scores;
  for (const auto& [domain, values] : scores) {
    summary.domains[domain] = {mean_of(values), static_cast<int64_t>(values.size())};
    domain_scores.push_back(mean_of(values));
  }
  if (!domain_scores.empty()) summary.mean_score = mean_of(domain_scores);
}

void add_to(std::vector<double>& sums, const std::vector<double>& values, double share) {
  sums.resize(values.size(), 0);
  for (size_t i = 0; i < values.size(); ++i) sums[i] += share * values[i];
}

/// Intervals of the means: the stratified bootstrap (Agarwal et al. 2021), rollouts drawn anew within every task.
void add_intervals(const std::map<std::string, ScoredTask>& tasks, Summary& summary) {
  std::map<std::string, std::vector<double>> domains;
  for (const auto& [name, task] : tasks) {
    if (!task.summary.score) continue;
    const std::string domain = domain_of(name);
    add_to(domains[domain], task.resamples, 1 / static_cast<double>(summary.domains.at(domain).tasks));
  }
  std::vector<double> overall;
  for (const auto& [domain, means] : domains) {
    summary.domains.at(domain).ci95 = percentile_ci95(means);
    add_to(overall, means, 1 / static_cast<double>(domains.size()));
  }
  if (!overall.empty()) summary.mean_ci95 = percentile_ci95(std::move(overall));
}

Summary summarise(const std::vector<TaskResult>& results, bool refuse_disagreement) {
  GATO_CHECK(!results.empty(), "there are no results to summarise");
  Summary summary;
  summary.checkpoint = results.front().checkpoint;
  summary.step = results.front().step;
  summary.suite = results.front().suite;
  for (const TaskResult& result : results) {
    if (result.checkpoint == summary.checkpoint && result.suite == summary.suite && result.step == summary.step) {
      continue;
    }
    refuse(result, cat("does not belong to ", summary.checkpoint, " in suite ", summary.suite));
  }
  std::map<std::string, ScoredTask> tasks;
  for (const auto& [name, rollouts] : join_shards(results)) {
    ScoredTask& scored = tasks[name];
    if (rollouts.problem.empty()) {
      scored = summarise_task(rollouts);
    } else if (refuse_disagreement) {
      refuse(rollouts.joined, rollouts.problem);
    } else {
      scored.summary.scoring = rollouts.joined.scoring;
      add_note(scored.summary, cat("no score: ", rollouts.problem));
    }
    summary.tasks[name] = scored.summary;
  }
  add_means(summary);
  add_intervals(tasks, summary);
  return summary;
}

}  // namespace

Summary summarise(const std::vector<TaskResult>& results) { return summarise(results, true); }
Summary summarise_what_agrees(const std::vector<TaskResult>& results) { return summarise(results, false); }

}  // namespace gato::run
