#pragma once
#include <string>
#include <vector>

#include "gato/checkpoint/checkpoint.h"
#include "gato/core/random.h"
#include "gato/run/evaluation_queue.h"
#include "gato/run/evaluation_worker.h"

/// Jobs of a made-up suite, and a runner that stands in for a model.
namespace gato::run::test {

inline EvaluationPlan plan_of(int64_t tasks, int64_t rollouts, int64_t per_job) {
  EvaluationPlan plan;
  plan.every = 10;
  plan.last_step = 100;
  plan.rollouts_per_job = per_job;
  PlannedSuite suite{"quick", {}, {}};
  for (int64_t t = 0; t < tasks; ++t) suite.tasks.push_back({.task = cat("domain/task", t), .rollouts = rollouts});
  plan.suites.push_back(suite);
  return plan;
}

/// A folder that looks like a published checkpoint.
inline void publish(const RunFolder& run, int64_t step) {
  write_file_atomic(run.checkpoints_path() / checkpoint::step_name(step) / checkpoint::kManifestName, "{}");
}

/// Results that depend on task and rollout numbers alone.
inline std::vector<TaskResult> play_nothing(const JobBatch& batch, const Job& job, const std::function<bool()>&) {
  std::vector<TaskResult> results;
  for (const JobPart& part : job.parts) {
    TaskResult result;
    result.task = part.task.task;
    result.checkpoint = batch.checkpoint;
    result.step = batch.step;
    result.suite = batch.suite;
    result.shard = part.shard;
    result.num_shards = part.num_shards;
    result.decoding.rule = part.task.rule;
    result.decoding.temperature = part.task.temperature;
    result.decoding.top_p = part.task.top_p;
    result.decoding.prompt = batch.settings.prompt;
    result.decoding.weights = batch.settings.weights;
    result.expert = {10, 0.1, 50};
    result.random = {0, 0.1, 50};
    for (int64_t i = part.first; i < part.first + part.task.rollouts; ++i) {
      const uint64_t seed = mix_seed(batch.settings.seed, {hash_name(part.task.task), static_cast<uint64_t>(i)});
      RolloutRecord& rollout = result.rollouts.emplace_back();
      rollout.seed = seed;
      rollout.episode_return = static_cast<double>(seed % 11);
      rollout.length = 3;
    }
    if (!part.is_text()) {
      PlayRecord& play = result.play.emplace();
      play.seed = batch.settings.seed;
      play.first = part.first;
      play.slots = batch.settings.slots;
      for (const JobPart& beside : job.parts) {
        if (!beside.is_text()) play.together.push_back({beside.task.task, beside.first, beside.task.rollouts});
      }
    }
    if (part.is_text()) {
      result.scoring = TaskScoring::kLoss;
      result.loss = TextLoss{2, 100, 4};
    }
    results.push_back(std::move(result));
  }
  return results;
}

}  // namespace gato::run::test
