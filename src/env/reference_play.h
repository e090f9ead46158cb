#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "gato/core/random.h"
#include "gato/env/rollout.h"

namespace gato::env {

/// The random numbers of random play in the episode of `seed`, the same for a Policy and for a reference measurement.
[[nodiscard]] Rng random_play_stream(uint64_t seed);

/// roll_out_reference on `threads` threads (0: the budget); `on_episode` is called by any of them after each episode.
[[nodiscard]] std::vector<RolloutResult> play_reference_episodes(const TaskEntry& entry, ReferenceAgent agent,
                                                                 const std::vector<uint64_t>& seeds, int threads,
                                                                 const std::function<void()>& on_episode);

}  // namespace gato::env
