#include "gato/run/compare.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/core/text.h"
#include "run/task_rollouts.h"

namespace gato::run {
namespace {

/// Percent points of one seed's rollouts.
using Pair = std::pair<double, double>;

double points_of(const TaskResult& task, const RolloutRecord& rollout) {
  if (task.scoring == TaskScoring::kExactMatch) return rollout.exact_match.value_or(false) ? 100 : 0;
  return 100 * (rollout.episode_return - task.random.mean) / (task.expert.mean - task.random.mean);
}

/// Why one evaluation's rollouts of a task cannot be compared with any; "" when they can. Tasks that have no score in a
/// table have none here.
std::string obstacle_in(const TaskRollouts& task) {
  if (!task.problem.empty()) return task.problem;
  const TaskResult played = task.played();
  if (played.scoring == TaskScoring::kLoss) return "it is judged by its loss";
  return played.scoring == TaskScoring::kReturn ? obstacle_to_score(played) : "";
}

/// Why the rollouts of a task cannot be compared; "" when they can.
std::string obstacle(const TaskRollouts& a, const TaskRollouts& b) {
  if (a.joined.scoring != b.joined.scoring) return "is judged in another way";
  if (const std::string why = obstacle_in(a); !why.empty()) return cat("has no score in the first: ", why);
  if (const std::string why = obstacle_in(b); !why.empty()) return cat("has no score in the second: ", why);
  if (a.joined.scoring == TaskScoring::kExactMatch) return "";
  const bool have_one_scale = a.joined.expert == b.joined.expert && a.joined.random == b.joined.random;
  return have_one_scale ? "" : "has other expert or random returns";
}

std::vector<Pair> pairs_of(const TaskResult& a, const TaskResult& b) {
  std::map<uint64_t, const RolloutRecord*> by_seed;
  for (const RolloutRecord& rollout : b.rollouts) by_seed[rollout.seed] = &rollout;
  std::vector<Pair> pairs;
  for (const RolloutRecord& rollout : a.rollouts) {
    const auto other = by_seed.find(rollout.seed);
    if (other != by_seed.end()) pairs.emplace_back(points_of(a, rollout), points_of(a, *other->second));
  }
  return pairs;
}

double mean_difference(const std::vector<Pair>& pairs, Rng& rng) {
  double sum = 0;
  const auto count = static_cast<int64_t>(pairs.size());
  for (int64_t i = 0; i < count; ++i) {
    const Pair& pair = pairs[static_cast<size_t>(rng.below(count))];
    sum += pair.second - pair.first;
  }
  return sum / static_cast<double>(count);
}

/// Differences of resamples come to an interval and a probability.
std::pair<Pair, double> judged(std::vector<double> differences) {
  std::sort(differences.begin(), differences.end());
  const auto at = [&](double q) {
    return differences[static_cast<size_t>(std::lround(q * static_cast<double>(differences.size() - 1)))];
  };
  double better = 0;
  for (const double difference : differences) better += difference > 0 ? 1 : difference == 0 ? 0.5 : 0;
  return {{at(0.025), at(0.975)}, better / static_cast<double>(differences.size())};
}

/// Mean over a task's values per domain, then over domains.
double mean_over_domains(const std::map<std::string, double>& by_task) {
  std::map<std::string, std::pair<double, int64_t>> domains;
  for (const auto& [task, value] : by_task) {
    auto& [sum, count] = domains[domain_of(task)];
    sum += value;
    ++count;
  }
  double sum = 0;
  for (const auto& [domain, values] : domains) sum += values.first / static_cast<double>(values.second);
  return sum / static_cast<double>(domains.size());
}

}  // namespace

Comparison compare_results(const std::vector<TaskResult>& a, const std::vector<TaskResult>& b, int64_t resamples) {
  GATO_CHECK(resamples > 0, resamples, " resamples");
  Comparison comparison;
  const auto tasks_a = join_shards(a), tasks_b = join_shards(b);
  std::map<std::string, std::vector<Pair>> pairs;
  for (const auto& [task, rollouts] : tasks_a) {
    const auto other = tasks_b.find(task);
    if (other == tasks_b.end()) {
      comparison.left_out[task] = "is in the first only";
      continue;
    }
    if (const std::string why = obstacle(rollouts, other->second); !why.empty()) {
      comparison.left_out[task] = why;
      continue;
    }
    const std::vector<Pair> common = pairs_of(rollouts.played(), other->second.played());
    if (common.size() < 2) {
      comparison.left_out[task] = "has fewer than two rollouts of the same seeds in both";
    } else {
      pairs[task] = common;
    }
  }
  for (const auto& [task, rollouts] : tasks_b) {
    if (!tasks_a.contains(task)) comparison.left_out[task] = "is in the second only";
  }
  if (pairs.empty()) {
    throw ConfigError(
        "the two evaluations have no task with rollouts of the same seeds; evaluate both with one suite "
        "and --seed");
  }
  std::map<std::string, std::vector<double>> differences;
  std::map<std::string, double> means_a, means_b;
  for (const auto& [task, common] : pairs) {
    TaskComparison& line = comparison.tasks[task];
    line.rollouts = static_cast<int64_t>(common.size());
    for (const Pair& pair : common) {
      line.score_a += pair.first / static_cast<double>(common.size());
      line.score_b += pair.second / static_cast<double>(common.size());
    }
    means_a[task] = line.score_a;
    means_b[task] = line.score_b;
    Rng rng(mix_seed(hash_name(task), {hash_name("compare")}));
    for (int64_t i = 0; i < resamples; ++i) differences[task].push_back(mean_difference(common, rng));
    std::tie(line.difference_ci95, line.probability_b_better) = judged(differences[task]);
  }
  comparison.mean_a = mean_over_domains(means_a);
  comparison.mean_b = mean_over_domains(means_b);
  std::vector<double> overall;
  for (int64_t i = 0; i < resamples; ++i) {
    std::map<std::string, double> resample;
    for (const auto& [task, values] : differences) resample[task] = values[static_cast<size_t>(i)];
    overall.push_back(mean_over_domains(resample));
  }
  std::tie(comparison.difference_ci95, comparison.probability_b_better) = judged(std::move(overall));
  return comparison;
}

}  // namespace gato::run
