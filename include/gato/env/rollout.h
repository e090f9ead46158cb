#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "gato/env/environment.h"

namespace gato::env {

/// What the seed of an episode is for. The use is part of the seed, so data, reference measurements and evaluations
/// never share an episode, whatever seeds people choose.
enum class SeedUse : uint8_t { kData = 0, kReference = 1, kEvaluation = 2 };

/// Seed of episode `index` of `task`: a keyed hash of all arguments whose two lowest bits are the use.
[[nodiscard]] uint64_t seed_for(SeedUse use, uint64_t seed, const std::string& task, int64_t index);
/// seed_for of the indices [0, count).
[[nodiscard]] std::vector<uint64_t> seeds_for(SeedUse use, uint64_t seed, const std::string& task, int64_t count);

/// Many environments of one task, stepped together. start() begins work, wait() collects it, so that the caller can
/// compute meanwhile. Slots are numbered 0 .. size()-1. Used by one thread.
class EnvironmentBatch {
 public:
  virtual ~EnvironmentBatch() = default;
  [[nodiscard]] virtual const TaskSpec& spec() const = 0;
  [[nodiscard]] virtual int size() const = 0;
  [[nodiscard]] virtual StepValues reset(int slot, uint64_t seed) = 0;
  /// Begins a step in every named slot; `actions` aligned with `slots`.
  virtual void start(std::span<const int> slots, std::span<const StepValues> actions) = 0;
  /// Results of the started step, aligned with its slots. A step that threw rethrows here.
  [[nodiscard]] virtual std::vector<StepResult> wait() = 0;
  [[nodiscard]] virtual std::optional<Image> frame(int slot) = 0;
  [[nodiscard]] virtual std::optional<std::string> reference_answer(int slot) const = 0;
};

/// Environments of one task, in this process or in workers (gato/env/remote.h), stepped by up to `threads` threads or
/// worker processes (0: the budget).
[[nodiscard]] std::unique_ptr<EnvironmentBatch> make_environment_batch(const std::string& task, int size,
                                                                       int threads = 0);

/// Chooses actions for the slots of a batch of environments.
class Policy {
 public:
  virtual ~Policy() = default;
  /// An episode begins in `slot`: whatever was remembered for it is dropped. `seed` keys sampling.
  virtual void begin_episode(int slot, uint64_t seed) = 0;
  /// One action per named slot, given the observations now; aligned with `slots`.
  virtual std::vector<StepValues> act(std::span<const int> slots, std::span<const StepValues> observations) = 0;
};

/// Random actions inside the specification.
[[nodiscard]] std::unique_ptr<Policy> make_random_policy(const TaskSpec& spec);

/// What came of one episode.
struct RolloutResult {
  uint64_t seed = 0;
  double episode_return = 0;
  int64_t length = 0;
  std::optional<bool> success;
  std::optional<bool> exact_match;  ///< Tasks judged by exact match: whether the text action equals the reference.
  std::string answer, reference;    ///< For those tasks.
  std::string failure;              ///< Why the environment failed (StepResult::failure); such an episode has no score.
  std::vector<Image> frames;        ///< Of the first `record` episodes.
  bool operator==(const RolloutResult&) const = default;
};

struct RolloutOptions {
  std::vector<uint64_t> seeds;  ///< One episode each.
  int record_frames = 0;        ///< Episodes, counted from the first seed, of which frames are kept.
  int frame_stride = 1;         ///< Every how many steps a frame is kept.
  std::function<void(int64_t episodes_done)> on_progress;
};

/// Plays one episode per seed with `policy`, all slots of `batch` busy; results in the order of the seeds, independent
/// of the batch's size as far as the policy's answers are. Polls stop_requested() (Interrupted).
[[nodiscard]] std::vector<RolloutResult> roll_out(EnvironmentBatch& batch, Policy& policy,
                                                  const RolloutOptions& options);

/// Plays one episode per seed with the task's expert (no noise) or at random, in parallel. `on_episode` is called by
/// any of the threads after each episode.
enum class ReferenceAgent { kExpert, kRandom };
[[nodiscard]] std::vector<RolloutResult> roll_out_reference(const std::string& task, ReferenceAgent agent,
                                                            const std::vector<uint64_t>& seeds,
                                                            const std::function<void()>& on_episode = nullptr);

/// Mean return and its standard error (0 for fewer than two episodes) of those that did not fail.
[[nodiscard]] episode::ReturnRecord return_record(const std::vector<RolloutResult>& results);

}  // namespace gato::env
