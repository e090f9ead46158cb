#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gato/env/rollout.h"

namespace gato::eval {

/// One episode as it was played: enough to play it again without the agent.
struct LoggedEpisode {
  int64_t number = 0;  ///< From 0, in the order the episodes began.
  uint64_t seed = 0;
  double episode_return = 0;
  std::optional<bool> success;
  std::vector<env::StepValues> actions;
  std::string question;  ///< Texts of the observations, a line per turn.
};

/// A batch of environments that remembers the episodes worth showing, of which one knows only when they are over: the
/// first ones, the best and the worst by return (of equals the first). It keeps what was done in them and in those
/// under way, not what was seen, so its memory does not grow with the number of episodes: frames are made by playing
/// the actions again, since the same seed and actions give the same episode. One thread, as the batch.
class LoggedBatch : public env::EnvironmentBatch {
 public:
  LoggedBatch(std::unique_ptr<env::EnvironmentBatch> batch, int64_t first_episodes);

  [[nodiscard]] const env::TaskSpec& spec() const override { return batch_->spec(); }
  [[nodiscard]] int size() const override { return batch_->size(); }
  [[nodiscard]] env::StepValues reset(int slot, uint64_t seed) override;
  void start(std::span<const int> slots, std::span<const env::StepValues> actions) override;
  [[nodiscard]] std::vector<env::StepResult> wait() override;
  [[nodiscard]] std::optional<env::Image> frame(int slot) override { return batch_->frame(slot); }
  [[nodiscard]] std::optional<std::string> reference_answer(int slot) const override {
    return batch_->reference_answer(slot);
  }

  /// The first episodes, in their order.
  [[nodiscard]] const std::vector<LoggedEpisode>& first() const { return first_; }
  /// Absent before an episode without a failure has ended.
  [[nodiscard]] const std::optional<LoggedEpisode>& best() const { return best_; }
  [[nodiscard]] const std::optional<LoggedEpisode>& worst() const { return worst_; }

  /// Plays an episode again in slot 0 and returns its frames, at most `most_frames` evenly over its steps (the last one
  /// always), the longer side at most `most_side`. Nothing where the environment has no pictures, or where the episode
  /// did not come out the same (a warning says so). `on_step` is called after every step. Throws what it and the
  /// environment throw.
  [[nodiscard]] std::vector<env::Image> frames_of(const LoggedEpisode& episode, int64_t most_frames, int32_t most_side,
                                                  const std::function<void()>& on_step = {});

 private:
  void finish(LoggedEpisode episode);

  std::unique_ptr<env::EnvironmentBatch> batch_;
  int64_t first_episodes_, begun_ = 0;
  std::vector<LoggedEpisode> under_way_;  // by slot
  std::vector<int> stepping_;             // slots of the started step
  std::vector<LoggedEpisode> first_;
  std::optional<LoggedEpisode> best_, worst_;
};

}  // namespace gato::eval
