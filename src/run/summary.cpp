#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/core/text.h"
#include "gato/run/confidence.h"
#include "gato/run/results.h"

namespace gato::run {
namespace {

constexpr double kHalfOfExpert = 50.0;  // percent

std::string domain_of(const std::string& task) { return task.substr(0, task.find('/')); }

[[noreturn]] void refuse(const TaskResult& result, const std::string& problem) {
  throw DataError(
      cat("results of ", result.task, " at ", result.checkpoint, " in suite ", result.suite, ": ", problem));
}

/// Joins text losses by their numbers of tokens.
TextLoss joined(const TextLoss& a, const TextLoss& b) {
  const auto tokens_a = static_cast<double>(a.tokens);
  const auto tokens_b = static_cast<double>(b.tokens);
  const auto mean = [&](double x, double y) { return (x * tokens_a + y * tokens_b) / (tokens_a + tokens_b); };
  return {mean(a.nats_per_token, b.nats_per_token), a.tokens + b.tokens,
          mean(a.unigram_nats_per_token, b.unigram_nats_per_token)};
}

/// All shards of one task as one result.
struct TaskRollouts {
  TaskResult joined;
  std::set<int64_t> shards;
};

void join_shard(TaskRollouts& all, const TaskResult& shard) {
  TaskResult& first = all.joined;
  if (!all.shards.insert(shard.shard).second) refuse(shard, cat("shard ", shard.shard, " is there twice"));
  const bool agrees = shard.scoring == first.scoring && shard.expert == first.expert && shard.random == first.random &&
                      shard.num_shards == first.num_shards && shard.decoding == first.decoding &&
                      shard.loss.has_value() == first.loss.has_value();
  if (!agrees) refuse(shard, cat("shard ", shard.shard, " differs from another in scoring, decoding or references"));
  if (first.loss) first.loss = joined(*first.loss, *shard.loss);
  first.rollouts.insert(first.rollouts.end(), shard.rollouts.begin(), shard.rollouts.end());
}

/// Rollouts by seed, so that nothing depends on how they were divided.
void sort_rollouts(TaskResult& result) {
  std::vector<RolloutRecord>& rollouts = result.rollouts;
  std::sort(rollouts.begin(), rollouts.end(),
            [](const RolloutRecord& a, const RolloutRecord& b) { return a.seed < b.seed; });
  const auto twin = std::adjacent_find(rollouts.begin(), rollouts.end(),
                                       [](const auto& a, const auto& b) { return a.seed == b.seed; });
  if (twin != rollouts.end()) refuse(result, cat("seed ", twin->seed, " is there twice"));
}

std::map<std::string, TaskRollouts> by_task(const std::vector<TaskResult>& results) {
  // By shard, since the joined loss is a sum of floating-point numbers.
  std::vector<const TaskResult*> ordered;
  for (const TaskResult& result : results) ordered.push_back(&result);
  std::sort(ordered.begin(), ordered.end(), [](const auto* a, const auto* b) { return a->shard < b->shard; });
  std::map<std::string, TaskRollouts> tasks;
  for (const TaskResult* result : ordered) {
    if (result->checkpoint != results.front().checkpoint || result->suite != results.front().suite ||
        result->step != results.front().step) {
      refuse(*result, cat("does not belong to ", results.front().checkpoint, " in suite ", results.front().suite));
    }
    const auto [entry, is_new] = tasks.try_emplace(result->task);
    if (is_new) {
      entry->second = {*result, {result->shard}};
    } else {
      join_shard(entry->second, *result);
    }
  }
  for (auto& [task, rollouts] : tasks) sort_rollouts(rollouts.joined);
  return tasks;
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

/// Finite, and so far from the largest double that sums and differences stay finite.
bool is_usable(double value) { return std::abs(value) < 1e150; }

/// Why returns cannot be turned into a score; "" when they can.
std::string obstacle_to_score(const TaskResult& result, const std::vector<double>& returns) {
  const auto bad = std::count_if(returns.begin(), returns.end(), [](double value) { return !is_usable(value); });
  if (returns.empty()) return "no score: no rollouts";
  if (bad > 0) return cat("no score: ", bad, " of ", returns.size(), " returns are not finite or beyond 1e150");
  if (result.expert.episodes == 0) return "no score: the expert was not measured";
  if (result.random.episodes == 0) return "no score: random actions were not measured";
  if (!is_usable(result.expert.mean) || !is_usable(result.random.mean)) return "no score: references beyond 1e150";
  // The least difference keeps the score finite; differences this small are rounding. One below two standard errors is
  // chance, and scores would be noise divided by noise.
  const double error = std::hypot(result.expert.standard_error, result.random.standard_error);
  if (!(result.expert.mean - result.random.mean > std::max(1e-100, 2 * error))) {
    return "no score: the expert is not better than random actions";
  }
  return "";
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

void score_by_return(const TaskResult& result, TaskSummary& summary) {
  const std::vector<double> returns = returns_of(result);
  const std::string obstacle = obstacle_to_score(result, returns);
  if (!obstacle.empty()) return add_note(summary, obstacle);

  const double range = result.expert.mean - result.random.mean;
  const auto score_of = [&](double mean) { return 100 * (mean - result.random.mean) / range; };
  summary.score = score_of(*summary.mean_return);
  if (returns.size() < 2) return add_note(summary, "no interval: one rollout");
  const auto [low, high] = bootstrap_mean_ci95(returns, hash_name(result.task));
  summary.ci95 = {score_of(low), score_of(high)};
}

void score_by_exact_match(const TaskResult& result, TaskSummary& summary) {
  if (result.rollouts.empty()) return add_note(summary, "no score: no rollouts");
  const auto trials = static_cast<int64_t>(result.rollouts.size());
  const int64_t hits = std::count_if(result.rollouts.begin(), result.rollouts.end(),
                                     [](const RolloutRecord& rollout) { return rollout.exact_match.value_or(false); });
  summary.exact_match = static_cast<double>(hits) / static_cast<double>(trials);
  summary.score = 100 * *summary.exact_match;
  const auto [low, high] = wilson_ci95(hits, trials);
  summary.ci95 = {100 * low, 100 * high};
}

/// `result` without the rollouts that the environment broke off.
TaskResult played(TaskResult result) {
  std::erase_if(result.rollouts, [](const RolloutRecord& rollout) { return !rollout.failure.empty(); });
  return result;
}

TaskSummary summarise_task(const TaskRollouts& task) {
  const TaskResult result = played(task.joined);
  TaskSummary summary;
  summary.scoring = result.scoring;
  summary.rollouts = static_cast<int64_t>(result.rollouts.size());
  summary.success_rate = share_of(result.rollouts, &RolloutRecord::success);
  summary.success_ci95 = success_interval(result.rollouts);
  summary.loss = result.loss;
  if (result.scoring != TaskScoring::kLoss) add_returns(result, summary);
  if (result.scoring == TaskScoring::kReturn) score_by_return(result, summary);
  if (result.scoring == TaskScoring::kExactMatch) score_by_exact_match(result, summary);
  const auto shards = static_cast<int64_t>(task.shards.size());
  const size_t failed = task.joined.rollouts.size() - result.rollouts.size();
  if (failed > 0) {
    add_note(summary,
             cat(failed, " of ", task.joined.rollouts.size(), " rollouts failed by the environment: left out"));
  }
  if (shards < result.num_shards) add_note(summary, cat("incomplete: ", shards, " of ", result.num_shards, " shards"));
  return summary;
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

}  // namespace

Summary summarise(const std::vector<TaskResult>& results) {
  GATO_CHECK(!results.empty(), "there are no results to summarise");
  Summary summary;
  summary.checkpoint = results.front().checkpoint;
  summary.step = results.front().step;
  summary.suite = results.front().suite;
  for (const auto& [name, task] : by_task(results)) summary.tasks[name] = summarise_task(task);
  add_means(summary);
  return summary;
}

}  // namespace gato::run
