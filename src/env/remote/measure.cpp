#include <algorithm>
#include <chrono>

#include "env/reference_play.h"
#include "env/remote/tasks.h"
#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/core/threads.h"
#include "gato/env/native_family.h"

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

double measure_references(const RemoteFamily& family, RemoteTask& task, int64_t episodes, int threads) {
  const TaskEntry entry = is_native_family(family.name) ? find_task(task.spec.id) : remote_entry(family, task);
  const auto seeds = seeds_for(SeedUse::kReference, family.seed, task.spec.id, episodes);
  const auto random = play_reference_episodes(entry, ReferenceAgent::kRandom, seeds, threads, nullptr);
  std::vector<RolloutResult> expert;
  const auto begin = std::chrono::steady_clock::now();
  if (task.has_expert) expert = play_reference_episodes(entry, ReferenceAgent::kExpert, seeds, threads, nullptr);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  task.spec.random = return_record(random);
  task.random_success = success_rate(random);
  task.random_failures = failures_of(task, random);
  task.spec.expert = return_record(expert);
  task.expert_success = success_rate(expert);
  task.expert_failures = failures_of(task, expert);
  int64_t steps = 0;
  for (const RolloutResult& result : expert) steps += result.length;
  const int64_t players = std::min<int64_t>(threads > 0 ? threads : thread_budget(), episodes);
  return steps == 0 ? 0.0 : seconds.count() * static_cast<double>(players) / static_cast<double>(steps);
}

}  // namespace gato::env
