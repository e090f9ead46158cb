#include "logged_batch.h"

#include <algorithm>
#include <cmath>

#include "gato/core/error.h"
#include "gato/core/log.h"

namespace gato::eval {
namespace {

void add_texts(const env::TaskSpec& spec, const env::StepValues& observation, std::string& question) {
  for (size_t f = 0; f < std::min(observation.size(), spec.observation.size()); ++f) {
    if (spec.observation[f].modality != episode::Modality::kText || observation[f].text.empty()) continue;
    question += (question.empty() ? "" : "\n") + observation[f].text;
  }
}

/// Whether texts that are seen change from step to step: elsewhere one of them says all.
bool is_dialogue(const env::TaskSpec& spec) { return spec.scoring == episode::Scoring::kExactMatch; }

env::Image made_smaller(env::Image frame, int32_t most_side) {
  const int32_t side = std::max(frame.height, frame.width);
  if (side <= most_side) return frame;
  const double scale = static_cast<double>(most_side) / side;
  const auto shrunk = [&](int32_t length) { return std::max(1, static_cast<int32_t>(std::lround(length * scale))); };
  return episode::resize_image(frame, shrunk(frame.height), shrunk(frame.width));
}

}  // namespace

LoggedBatch::LoggedBatch(std::unique_ptr<env::EnvironmentBatch> batch, int64_t first_episodes)
    : batch_(std::move(batch)), first_episodes_(first_episodes), under_way_(static_cast<size_t>(batch_->size())) {}

env::StepValues LoggedBatch::reset(int slot, uint64_t seed) {
  env::StepValues observation = batch_->reset(slot, seed);
  LoggedEpisode& episode = under_way_.at(static_cast<size_t>(slot));
  episode = {};
  episode.number = begun_++;
  episode.seed = seed;
  add_texts(spec(), observation, episode.question);
  return observation;
}

void LoggedBatch::start(std::span<const int> slots, std::span<const env::StepValues> actions) {
  batch_->start(slots, actions);
  stepping_.assign(slots.begin(), slots.end());
  for (size_t i = 0; i < slots.size(); ++i) under_way_.at(static_cast<size_t>(slots[i])).actions.push_back(actions[i]);
}

std::vector<env::StepResult> LoggedBatch::wait() {
  std::vector<env::StepResult> steps = batch_->wait();
  for (size_t i = 0; i < steps.size(); ++i) {
    LoggedEpisode& episode = under_way_.at(static_cast<size_t>(stepping_.at(i)));
    episode.episode_return += steps[i].reward;
    if (!steps[i].done()) {
      if (is_dialogue(spec())) add_texts(spec(), steps[i].observation, episode.question);
      continue;
    }
    episode.success = steps[i].success;
    // One that the environment broke off shows nothing of the agent, and could not be played again.
    if (steps[i].failure.empty()) finish(std::move(episode));
    episode = {};
  }
  return steps;
}

void LoggedBatch::finish(LoggedEpisode episode) {
  if (episode.number < first_episodes_) {
    const auto after = std::find_if(first_.begin(), first_.end(),
                                    [&](const LoggedEpisode& other) { return other.number > episode.number; });
    first_.insert(after, episode);
  }
  if (!std::isfinite(episode.episode_return)) return;
  // Episodes end in no order: of equals the first begun counts, so that nothing depends on the number of slots.
  const auto beats = [&](const std::optional<LoggedEpisode>& kept, double sign) {
    if (!kept) return true;
    const double more = sign * (episode.episode_return - kept->episode_return);
    return more > 0 || (more == 0 && episode.number < kept->number);
  };
  const bool is_best = beats(best_, 1), is_worst = beats(worst_, -1);
  if (is_best) best_ = episode;
  if (is_worst) worst_ = std::move(episode);
}

std::vector<env::Image> LoggedBatch::frames_of(const LoggedEpisode& episode, int64_t most_frames, int32_t most_side,
                                               const std::function<void()>& on_step) {
  GATO_CHECK(most_frames >= 2, most_frames, " frames");
  const auto length = static_cast<int64_t>(episode.actions.size());
  const int64_t stride = std::max<int64_t>(1, (length + most_frames - 2) / (most_frames - 1));
  std::vector<env::Image> frames;
  const auto keep_frame = [&] {
    if (auto frame = batch_->frame(0)) frames.push_back(made_smaller(std::move(*frame), most_side));
  };
  static_cast<void>(batch_->reset(0, episode.seed));
  keep_frame();
  if (frames.empty()) return {};
  double episode_return = 0;
  const int slot = 0;
  bool ended_alike = length == 0;
  for (int64_t i = 0; i < length; ++i) {
    batch_->start({&slot, 1}, {&episode.actions[static_cast<size_t>(i)], 1});
    const std::vector<env::StepResult> steps = batch_->wait();
    if (on_step) on_step();
    episode_return += steps.at(0).reward;
    const bool is_last = i + 1 == length, is_done = steps[0].done();
    ended_alike = is_last && is_done && steps[0].failure.empty() && episode_return == episode.episode_return;
    // The picture of a question does not change by the answer.
    if ((is_last || (i + 1) % stride == 0) && spec().max_steps != 1) keep_frame();
    if (is_done) break;
  }
  if (ended_alike) return frames;
  log::warning("eval", spec().id, ": the episode of seed ", episode.seed,
               " did not come out the same when its actions ",
               "were played again, so the report will not show it: this environment does not repeat itself");
  return {};
}

}  // namespace gato::eval
