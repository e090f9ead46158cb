#include "run/task_rollouts.h"

#include <algorithm>
#include <cmath>

#include "gato/core/text.h"

namespace gato::run {
namespace {

/// Joins text losses by their numbers of tokens.
TextLoss joined(const TextLoss& a, const TextLoss& b) {
  const auto tokens_a = static_cast<double>(a.tokens);
  const auto tokens_b = static_cast<double>(b.tokens);
  const auto mean = [&](double x, double y) { return (x * tokens_a + y * tokens_b) / (tokens_a + tokens_b); };
  return {mean(a.nats_per_token, b.nats_per_token), a.tokens + b.tokens,
          mean(a.unigram_nats_per_token, b.unigram_nats_per_token)};
}

void join_shard(TaskRollouts& all, const TaskResult& shard) {
  TaskResult& first = all.joined;
  const bool is_new = all.shards.insert(shard.shard).second;
  const bool agrees = shard.scoring == first.scoring && shard.expert == first.expert && shard.random == first.random &&
                      shard.num_shards == first.num_shards && shard.decoding == first.decoding &&
                      shard.loss.has_value() == first.loss.has_value();
  if (!is_new || !agrees) {
    all.problem = is_new ? cat("shard ", shard.shard, " differs from another in scoring, decoding or references")
                         : cat("shard ", shard.shard, " is there twice");
    return;
  }
  if (first.loss) first.loss = joined(*first.loss, *shard.loss);
  first.rollouts.insert(first.rollouts.end(), shard.rollouts.begin(), shard.rollouts.end());
}

/// Rollouts by seed, so that nothing depends on how they were divided.
void sort_rollouts(TaskRollouts& task) {
  std::vector<RolloutRecord>& rollouts = task.joined.rollouts;
  std::sort(rollouts.begin(), rollouts.end(),
            [](const RolloutRecord& a, const RolloutRecord& b) { return a.seed < b.seed; });
  const auto twin = std::adjacent_find(rollouts.begin(), rollouts.end(),
                                       [](const auto& a, const auto& b) { return a.seed == b.seed; });
  if (twin != rollouts.end() && task.problem.empty()) task.problem = cat("seed ", twin->seed, " is there twice");
}

/// Finite, and so far from the largest double that sums and differences stay finite.
bool is_usable(double value) { return std::abs(value) < 1e150; }

}  // namespace

TaskResult TaskRollouts::played() const {
  TaskResult result = joined;
  std::erase_if(result.rollouts, [](const RolloutRecord& rollout) { return !rollout.failure.empty(); });
  return result;
}

std::map<std::string, TaskRollouts> join_shards(const std::vector<TaskResult>& results) {
  // By shard, since the joined loss is a sum of floating-point numbers.
  std::vector<const TaskResult*> ordered;
  for (const TaskResult& result : results) ordered.push_back(&result);
  std::stable_sort(ordered.begin(), ordered.end(), [](const auto* a, const auto* b) { return a->shard < b->shard; });
  std::map<std::string, TaskRollouts> tasks;
  for (const TaskResult* result : ordered) {
    const auto [entry, is_new] = tasks.try_emplace(result->task);
    if (is_new) {
      entry->second = {*result, {result->shard}, ""};
    } else {
      join_shard(entry->second, *result);
    }
  }
  for (auto& [task, rollouts] : tasks) sort_rollouts(rollouts);
  return tasks;
}

std::string obstacle_to_score(const TaskResult& played) {
  const auto bad = std::count_if(played.rollouts.begin(), played.rollouts.end(),
                                 [](const RolloutRecord& rollout) { return !is_usable(rollout.episode_return); });
  if (played.rollouts.empty()) return "no rollouts";
  if (bad > 0) return cat(bad, " of ", played.rollouts.size(), " returns are not finite or beyond 1e150");
  if (played.expert.episodes == 0) return "the expert was not measured";
  if (played.random.episodes == 0) return "random actions were not measured";
  if (!is_usable(played.expert.mean) || !is_usable(played.random.mean)) return "references beyond 1e150";
  // The least difference keeps the score finite; differences this small are rounding. One below two standard errors is
  // chance, and scores would be noise divided by noise.
  const double error = std::hypot(played.expert.standard_error, played.random.standard_error);
  if (!(played.expert.mean - played.random.mean > std::max(1e-100, 2 * error))) {
    return "the expert is not better than random actions";
  }
  return "";
}

std::string domain_of(const std::string& task) { return task.substr(0, task.find('/')); }

}  // namespace gato::run
