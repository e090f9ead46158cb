#pragma once
#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "eval/media.h"
#include "gato/core/random.h"
#include "gato/run/metrics.h"
#include "gato/run/results.h"
#include "gato/run/run_folder.h"

/// Run folders with made-up evaluations, as large as asked.
namespace gato::eval::testing {

struct SyntheticRun {
  int domains = 12, tasks_per_domain = 50, checkpoints = 3;
  int shown_per_domain = 50;  ///< Tasks with pictures.
  int32_t frame_side = 96;
  int frames = 12;
};

/// A ball that wanders over a shaded ground.
inline std::vector<episode::Image> wandering_ball(int frames, int32_t side, uint64_t seed) {
  Rng rng(seed);
  double x = 0.5, y = 0.5, across = rng.uniform() - 0.5, down = rng.uniform() - 0.5;
  std::vector<episode::Image> film;
  for (int f = 0; f < frames; ++f) {
    episode::Image frame{side, side, {}};
    for (int32_t row = 0; row < side; ++row) {
      for (int32_t column = 0; column < side; ++column) {
        const double away = std::hypot(row - y * side, column - x * side);
        const bool is_ball = away < side / 9.0;
        const auto ground = static_cast<uint8_t>(180 + 60 * row / side);
        frame.pixels.push_back(is_ball ? static_cast<uint8_t>(seed * 37 % 200) : ground);
        frame.pixels.push_back(is_ball ? static_cast<uint8_t>(seed * 71 % 200) : static_cast<uint8_t>(ground - 20));
        frame.pixels.push_back(is_ball ? 60 : static_cast<uint8_t>(150 + 90 * column / side));
      }
    }
    film.push_back(std::move(frame));
    x += across / 6;
    y += down / 6;
    if (x < 0.1 || x > 0.9) across = -across;
    if (y < 0.1 || y > 0.9) down = -down;
  }
  return film;
}

/// Results of a task whose agent reaches about `skill` of the expert; every 17th task has an expert that is none.
inline run::TaskResult synthetic_result(const std::string& task, int number, int64_t step, double skill) {
  Rng rng(mix_seed(static_cast<uint64_t>(step), {hash_name(task)}));
  run::TaskResult result;
  result.task = task;
  result.step = step;
  result.checkpoint = cat("step-", std::string(8 - std::to_string(step).size(), '0'), step);
  result.suite = "large";
  result.expert = {number % 17 == 5 ? 10.0 : 250.0, 2, 50};
  result.random = {12, 2, 50};
  for (uint64_t i = 0; i < 20; ++i) {
    run::RolloutRecord& rollout = result.rollouts.emplace_back();
    rollout.seed = i;
    rollout.episode_return = 12 + 238 * skill * (0.6 + 0.8 * rng.uniform());
    rollout.length = 100;
    rollout.success = rollout.episode_return > 130;
    if (number % 29 == 7 && i < 3) rollout.failure = "the worker did not answer within 30 s";
  }
  return result;
}

inline void write_synthetic_media(const Path& folder, const run::TaskResult& result, const SyntheticRun& size) {
  std::vector<MediaItem> items;
  const auto less = [](const auto& a, const auto& b) { return a.episode_return < b.episode_return; };
  const auto& rollouts = result.rollouts;
  const auto best = std::max_element(rollouts.begin(), rollouts.end(), less);
  const auto worst = std::min_element(rollouts.begin(), rollouts.end(), less);
  auto first = rollouts.begin();  // that is neither, so that there are three
  while (first == best || first == worst) ++first;
  for (const auto& [kind, which] : {std::pair{"first", first}, {"best", best}, {"worst", worst}}) {
    const run::RolloutRecord& rollout = *which;
    MediaItem item;
    item.task = result.task;
    item.kind = kind;
    item.seed = rollout.seed;
    item.episode_return = rollout.episode_return;
    item.length = rollout.length;
    item.success = rollout.success;
    const uint64_t seed = hash_name(result.task) + items.size();
    write_frames(folder, 0, static_cast<int64_t>(items.size()), wandering_ball(size.frames, size.frame_side, seed),
                 item);
    items.push_back(item);
  }
  write_media(folder, result.task, 0, items);
}

/// Tasks "domain-K/task-N", a suite "large" evaluated at several checkpoints, pictures of the last one.
inline run::RunFolder make_synthetic_run(const Path& path, const SyntheticRun& size) {
  run::RunFolder folder(path);
  folder.create();
  folder.write_config("train:\n  steps: 3000\n");
  const run::MetricsWriter metrics(folder.metrics_path(), 1);
  for (int64_t step = 0; step <= 1000 * size.checkpoints; step += 100) {
    run::MetricValues values;
    for (int d = 0; d < size.domains; ++d) {
      const double loss = 1 + 0.1 * d + 3 * std::exp(-static_cast<double>(step) / (600.0 + 100 * d));
      values[cat("train/loss/domain-", d)] = loss;
      if (step % 500 == 0) values[cat("validation/loss/domain-", d)] = loss + 0.1;
    }
    metrics.write(step, step * 4096, values);
  }
  for (int64_t step = 1000; step <= 1000 * size.checkpoints; step += 1000) {
    const Path results = folder.results_path(step, "large");
    std::vector<run::TaskResult> all;
    for (int d = 0; d < size.domains; ++d) {
      for (int t = 0; t < size.tasks_per_domain; ++t) {
        const double talent = 0.5 + 0.7 * std::sin(1.3 * d + 0.11 * t);
        const double skill = std::max(0.02, talent * static_cast<double>(step) / (1000.0 * size.checkpoints));
        all.push_back(synthetic_result(cat("domain-", d, "/task-", t), d * size.tasks_per_domain + t, step, skill));
        if (step == 1000 * size.checkpoints && t < size.shown_per_domain)
          write_synthetic_media(results, all.back(), size);
      }
    }
    const run::Summary summary = run::summarise(all);
    run::write_summary(results, summary);
    run::append_scores(folder.scores_path(), summary);
  }
  return folder;
}

}  // namespace gato::eval::testing
