#pragma once
#include <functional>
#include <string>
#include <vector>

#include "gato/env/rollout.h"
#include "gato/env/suite.h"
#include "gato/eval/agent.h"
#include "gato/run/results.h"
#include "media.h"

namespace gato::eval {

/// Episodes [first, first + rollouts) of a task that are to be played.
struct TaskToPlay {
  std::string task;
  int64_t first = 0, rollouts = 0;  ///< rollouts > 0.
  int64_t shard = 0, num_shards = 1;
  env::SuiteTask settings;  ///< Its decoding.
};

struct PlayOptions {
  std::string suite;  ///< Named in the results.
  uint64_t seed = 0;
  int64_t slots = 64;  ///< Environments per forward pass, divided among the tasks; at least one of each.
  /// First episodes that are shown, beside the best and the worst (tasks judged by exact match: 8 times as many and no
  /// extremes); 0: nothing is shown.
  int record_episodes = 1;
  int record_frames = 0;  ///< First episodes whose every frame is kept in `episodes`, as the agent plays.
  bool demonstration = false;
  bool cuda_graph = false;
  std::function<void(const std::string& task, int64_t done, int64_t rollouts)> on_progress = {};  ///< Any thread.
  /// Called before the agent acts and between reference episodes, by any thread: whoever waits sees that it comes on.
  /// What it throws ends the play.
  std::function<void()> on_step = {};
};

/// An episode that the report shows.
struct ShownEpisode {
  MediaItem item;  ///< Without its file.
  std::vector<episode::Image> frames;
};

/// A result and the episodes behind it.
struct PlayedTask {
  run::TaskResult result;
  std::vector<env::RolloutResult> episodes;
  std::vector<ShownEpisode> shown;
};

/// As suites and results name it.
[[nodiscard]] const char* decoding_name(env::Decoding decoding);

/// Seeds of the episodes [first, first + rollouts) of a task.
[[nodiscard]] std::vector<uint64_t> evaluation_seeds(uint64_t seed, const std::string& task, int64_t first,
                                                     int64_t rollouts);

/// Plays tasks together, their environments sharing the agent's forward passes. The agent must outlive the call.
[[nodiscard]] std::vector<PlayedTask> play_together(const Agent& agent, const std::vector<TaskToPlay>& tasks,
                                                    const PlayOptions& options);

/// The losses of texts whose held-out documents the checkpoint carries; a warning for others. `on_step` as above.
[[nodiscard]] std::vector<run::TaskResult> text_results(const Agent& agent, const std::string& suite,
                                                        const std::vector<std::string>& texts,
                                                        const std::function<void()>& on_step = nullptr);

/// Writes what is shown of a task beside its result, for the report; nothing where there is nothing.
void keep_media(const Path& results, const PlayedTask& played);

}  // namespace gato::eval
