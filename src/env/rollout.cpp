#include "gato/env/rollout.h"

#include <algorithm>
#include <atomic>
#include <cmath>

#include "env/reference_play.h"
#include "gato/core/error.h"
#include "gato/core/signals.h"
#include "gato/core/text.h"
#include "gato/core/threads.h"

namespace gato::env {

namespace {

/// Adds up one episode.
class EpisodeLog {
 public:
  EpisodeLog() = default;
  EpisodeLog(const TaskSpec& spec, uint64_t seed) : spec_(&spec) { result_.seed = seed; }

  /// Before a step: what will be done, and what should be said.
  void note_action(const StepValues& action, const std::optional<std::string>& reference) {
    if (spec_->scoring != episode::Scoring::kExactMatch) return;
    if (!reference) {
      throw DataError(
          cat("Task ", spec_->id, " is judged by exact match, but its environment gives no reference answer."));
    }
    const std::string answer = text_of(action);
    result_.exact_match = result_.exact_match.value_or(true) && answer == *reference;
    append_line(result_.answer, answer);
    append_line(result_.reference, *reference);
  }

  void note_result(const StepResult& step) {
    result_.episode_return += step.reward;
    ++result_.length;
    if (step.done()) result_.success = step.success;
    result_.failure = step.failure;
    if (!step.done() && spec_->max_steps > 0 && result_.length >= spec_->max_steps) {
      throw DataError(cat("Task ", spec_->id, ": the episode of seed ", result_.seed, " goes on after ",
                          spec_->max_steps, " steps, the limit its specification states."));
    }
  }

  void keep_frame(std::optional<Image> frame) {
    if (frame) result_.frames.push_back(std::move(*frame));
  }

  [[nodiscard]] int64_t length() const { return result_.length; }
  [[nodiscard]] RolloutResult take() { return std::move(result_); }

 private:
  [[nodiscard]] std::string text_of(const StepValues& action) const {
    for (size_t i = 0; i < action.size(); ++i) {
      if (spec_->action[i].modality == episode::Modality::kText) return action[i].text;
    }
    throw DataError(cat("Task ", spec_->id, " is judged by exact match, but has no text among its actions."));
  }

  /// Turns of a dialogue stand in lines of their own.
  void append_line(std::string& text, const std::string& line) const {
    if (result_.length > 0) text += '\n';
    text += line;
  }

  const TaskSpec* spec_ = nullptr;
  RolloutResult result_;
};

/// One call of roll_out.
class Rollouts {
 public:
  Rollouts(EnvironmentBatch& batch, Policy& policy, const RolloutOptions& options)
      : batch_(batch),
        policy_(policy),
        options_(options),
        slots_(static_cast<size_t>(batch.size())),
        results_(options.seeds.size()) {}

  std::vector<RolloutResult> run() {
    for (int slot = 0; slot < batch_.size(); ++slot) begin_next(slot);
    while (finished_ < results_.size()) {
      throw_if_stopped("playing episodes");
      step_all();
    }
    return std::move(results_);
  }

 private:
  struct Slot {
    int64_t episode = -1;  // index into the seeds; -1: idle
    StepValues observation;
    EpisodeLog log;
  };

  Slot& at(int slot) { return slots_[static_cast<size_t>(slot)]; }
  [[nodiscard]] bool records(const Slot& slot) const { return slot.episode < options_.record_frames; }

  void begin_next(int slot) {
    Slot& place = at(slot);
    place.episode = -1;
    if (begun_ == results_.size()) return;
    place.episode = static_cast<int64_t>(begun_);
    const uint64_t seed = options_.seeds[begun_++];
    place.observation = batch_.reset(slot, seed);
    place.log = EpisodeLog(batch_.spec(), seed);
    policy_.begin_episode(slot, seed);
    if (records(place)) place.log.keep_frame(batch_.frame(slot));
  }

  void step_all() {
    std::vector<int> busy;
    std::vector<StepValues> observations;
    for (int slot = 0; slot < batch_.size(); ++slot) {
      if (at(slot).episode < 0) continue;
      busy.push_back(slot);
      observations.push_back(std::move(at(slot).observation));
    }
    const std::vector<StepValues> actions = policy_.act(busy, observations);
    GATO_CHECK(actions.size() == busy.size(), "the policy gave ", actions.size(), " actions for ", busy.size(),
               " slots");
    for (size_t i = 0; i < busy.size(); ++i) {
      at(busy[i]).log.note_action(actions[i], batch_.reference_answer(busy[i]));
    }
    batch_.start(busy, actions);
    std::vector<StepResult> steps = batch_.wait();
    for (size_t i = 0; i < busy.size(); ++i) account(busy[i], std::move(steps[i]));
  }

  void account(int slot, StepResult step) {
    Slot& place = at(slot);
    place.log.note_result(step);
    const bool frame_due = step.done() || place.log.length() % std::max(1, options_.frame_stride) == 0;
    if (records(place) && frame_due) place.log.keep_frame(batch_.frame(slot));
    if (!step.done()) {
      place.observation = std::move(step.observation);
      return;
    }
    results_[static_cast<size_t>(place.episode)] = place.log.take();
    ++finished_;
    if (options_.on_progress) options_.on_progress(static_cast<int64_t>(finished_));
    begin_next(slot);
  }

  EnvironmentBatch& batch_;
  Policy& policy_;
  const RolloutOptions& options_;
  std::vector<Slot> slots_;
  std::vector<RolloutResult> results_;
  size_t begun_ = 0, finished_ = 0;
};

RolloutResult play_reference(Environment& environment, Expert* expert, uint64_t seed) {
  EpisodeLog log(environment.spec(), seed);
  Rng random = random_play_stream(seed);
  environment.reset(seed);
  if (expert != nullptr) expert->begin_episode();
  while (true) {
    const StepValues action = expert != nullptr ? expert->act() : random_action(environment.spec(), random);
    log.note_action(action, environment.reference_answer());
    const StepResult step = environment.step(action);
    log.note_result(step);
    if (step.done()) return log.take();
  }
}

}  // namespace

std::vector<RolloutResult> roll_out(EnvironmentBatch& batch, Policy& policy, const RolloutOptions& options) {
  return Rollouts(batch, policy, options).run();
}

std::vector<RolloutResult> play_reference_episodes(const TaskEntry& entry, ReferenceAgent agent,
                                                   const std::vector<uint64_t>& seeds, int threads,
                                                   const std::function<void()>& on_episode) {
  const bool by_expert = agent == ReferenceAgent::kExpert;
  if (by_expert && !entry.make_expert) throw ConfigError(cat("Task ", entry.id, " has no expert."));
  std::vector<RolloutResult> results(seeds.size());
  std::atomic<size_t> next = 0;
  const auto play = [&](int64_t) {
    const std::unique_ptr<Environment> environment = entry.make();
    const std::unique_ptr<Expert> expert = by_expert ? entry.make_expert(*environment) : nullptr;
    for (size_t i = next++; i < seeds.size(); i = next++) {
      throw_if_stopped("measuring reference scores");
      results[i] = play_reference(*environment, expert.get(), seeds[i]);
      if (on_episode) on_episode();
    }
  };
  // Making an environment may be costly, so there is one per thread and not one per episode.
  const int64_t most = threads > 0 ? threads : thread_budget();
  const auto workers = std::min(most, static_cast<int64_t>(seeds.size()));
  if (workers > 0) parallel_for(workers, play, threads);
  return results;
}

std::vector<RolloutResult> roll_out_reference(const std::string& task, ReferenceAgent agent,
                                              const std::vector<uint64_t>& seeds,
                                              const std::function<void()>& on_episode) {
  return play_reference_episodes(find_task(task), agent, seeds, 0, on_episode);
}

episode::ReturnRecord return_record(const std::vector<RolloutResult>& results) {
  episode::ReturnRecord record;
  std::vector<double> returns;
  for (const RolloutResult& result : results) {
    if (result.failure.empty()) returns.push_back(result.episode_return);
  }
  record.episodes = static_cast<int64_t>(returns.size());
  if (returns.empty()) return record;
  const auto count = static_cast<double>(returns.size());
  for (const double value : returns) record.mean += value;
  record.mean /= count;
  if (returns.size() < 2) return record;
  double squares = 0;
  for (const double value : returns) squares += std::pow(value - record.mean, 2);
  record.standard_error = std::sqrt(squares / (count - 1) / count);
  return record;
}

}  // namespace gato::env
