#include <algorithm>

#include "env/reference_play.h"
#include "env/remote/tasks.h"
#include "gato/core/error.h"
#include "gato/core/log.h"

namespace gato::env {

namespace {

/// Share of successes among the episodes that say; nothing where none does.
std::optional<double> success_rate(const std::vector<RolloutResult>& results) {
  int64_t known = 0, yes = 0;
  for (const RolloutResult& result : results) {
    if (!result.success || !result.failure.empty()) continue;
    ++known;
    yes += *result.success ? 1 : 0;
  }
  if (known == 0) return std::nullopt;
  return static_cast<double>(yes) / static_cast<double>(known);
}

int64_t failures_of(const RemoteTask& task, const std::vector<RolloutResult>& results) {
  int64_t failures = 0;
  for (const RolloutResult& result : results) {
    if (result.failure.empty()) continue;
    if (++failures == 1) log::warning("env", task.spec.id, ", seed ", result.seed, ": ", result.failure);
  }
  return failures;
}

}  // namespace

void measure_references(const RemoteFamily& family, RemoteTask& task, int64_t episodes, int threads) {
  const TaskEntry entry = remote_entry(family, task);
  const auto seeds = seeds_for(SeedUse::kReference, family.seed, task.spec.id, episodes);
  const auto random = play_reference_episodes(entry, ReferenceAgent::kRandom, seeds, threads, nullptr);
  std::vector<RolloutResult> expert;
  if (task.has_expert) expert = play_reference_episodes(entry, ReferenceAgent::kExpert, seeds, threads, nullptr);
  task.spec.random = return_record(random);
  task.random_success = success_rate(random);
  task.random_failures = failures_of(task, random);
  task.spec.expert = return_record(expert);
  task.expert_success = success_rate(expert);
  task.expert_failures = failures_of(task, expert);
}

}  // namespace gato::env
