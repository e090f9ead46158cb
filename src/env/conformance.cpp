#include "gato/env/conformance.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <functional>
#include <limits>

#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/core/text.h"
#include "gato/core/threads.h"

namespace gato::env {

namespace {

using episode::Episode;
using episode::FieldSpec;
using episode::Modality;

/// What happened in an episode, or in as much of it as was played.
struct Trace {
  std::vector<StepValues> observations;  // before each action
  std::vector<StepValues> actions;
  std::vector<double> rewards;
  bool terminated = false, truncated = false;
  std::optional<bool> success;
  bool early_success = false;  // success was set on a step that did not end the episode
  bool operator==(const Trace&) const = default;
  [[nodiscard]] bool ended() const { return terminated || truncated; }
  [[nodiscard]] double total() const {
    double sum = 0;
    for (const double reward : rewards) sum += reward;
    return sum;
  }
};

using ChooseAction = std::function<StepValues()>;

class Checker {
 public:
  Checker(const TaskEntry& entry, const ConformanceOptions& options) : entry_(entry), options_(options) {}

  std::vector<std::string> run() {
    if (!guarded("making it", [&] { check_making(); }) || !violations_.empty()) return violations_;
    const std::vector<std::pair<const char*, void (Checker::*)()>> checks = {
        {"random play", &Checker::check_random_play}, {"bad actions", &Checker::check_bad_actions},
        {"clipping", &Checker::check_clipping},       {"misuse", &Checker::check_misuse},
        {"snapshots", &Checker::check_snapshots},     {"frames", &Checker::check_frames},
        {"threads", &Checker::check_threads},         {"the expert", &Checker::check_expert}};
    for (const auto& [name, check] : checks) {
      guarded(name, [&, check = check] { (this->*check)(); });
    }
    return violations_;
  }

 private:
  template <class... Parts>
  void violation(const Parts&... parts) {
    const std::string text = cat(entry_.id, ": ", parts...);
    if (std::find(violations_.begin(), violations_.end(), text) == violations_.end()) violations_.push_back(text);
  }

  bool guarded(const char* doing, const std::function<void()>& body) {
    try {
      body();
      return true;
    } catch (const std::exception& error) {
      violation("while checking ", doing, ": ", error.what());
      return false;
    }
  }

  /// Whether `body` throws Expected; anything else, or nothing, is a violation.
  template <class Expected>
  void expect_error(const std::string& what, const char* expected, const std::function<void()>& body) {
    try {
      body();
    } catch (const Expected&) {
      return;
    } catch (const std::exception& error) {
      violation(what, " should be a ", expected, ", but another error came: ", error.what());
      return;
    }
    violation(what, " should be a ", expected, ", but was accepted");
  }

  [[nodiscard]] const TaskSpec& spec() const { return environment_->spec(); }
  [[nodiscard]] uint64_t seed(int episode) const {
    return mix_seed(options_.seed, {hash_name(entry_.id), static_cast<uint64_t>(episode)});
  }
  [[nodiscard]] size_t step_limit() const {
    return static_cast<size_t>(spec().max_steps > 0 ? spec().max_steps + 1 : options_.max_steps);
  }

  void check_making() {
    environment_ = entry_.make();
    if (environment_ == nullptr) return violation("make gave nothing");
    episode::check_task_spec(spec());
    if (spec().id != entry_.id) violation("its specification has another id, '", spec().id, "'");
  }

  // ---- playing ----

  /// Plays on from `observation` for at most `most_steps`.
  Trace play(Environment& environment, StepValues observation, const ChooseAction& choose, size_t most_steps) const {
    Trace trace;
    while (!trace.ended() && trace.actions.size() < most_steps) {
      trace.observations.push_back(std::move(observation));
      trace.actions.push_back(choose());
      StepResult step = environment.step(trace.actions.back());
      trace.rewards.push_back(step.reward);
      trace.terminated = step.terminated;
      trace.truncated = step.truncated;
      trace.success = step.success;
      trace.early_success = trace.early_success || (step.success && !step.done());
      observation = std::move(step.observation);
    }
    return trace;
  }

  Trace play_random(Environment& environment, uint64_t seed) const {
    Rng random(mix_seed(seed, {hash_name("conformance")}));
    return play(
        environment, environment.reset(seed), [&] { return random_action(environment.spec(), random); }, step_limit());
  }

  Trace replay(Environment& environment, uint64_t seed, const Trace& trace) const {
    return play_on(environment, environment.reset(seed), trace, 0);
  }

  /// Plays the actions of `trace` from number `first`.
  Trace play_on(Environment& environment, StepValues observation, const Trace& trace, size_t first) const {
    size_t next = first;
    return play(
        environment, std::move(observation), [&] { return trace.actions[next++]; }, trace.actions.size() - first);
  }

  // ---- values ----

  void check_trace(const Trace& trace, uint64_t seed) {
    check_values(trace, seed);
    for (const StepValues& observation : trace.observations) check_finite(observation);
    for (const double reward : trace.rewards) {
      if (!std::isfinite(reward)) violation("a reward is not a finite number (seed ", seed, ")");
    }
    if (trace.terminated && trace.truncated) violation("an episode is both terminated and truncated (seed ", seed, ")");
    if (trace.early_success) violation("success is set before the end of the episode (seed ", seed, ")");
    const auto steps = static_cast<int64_t>(trace.actions.size());
    if (spec().max_steps == 0) return;
    if (steps > spec().max_steps || !trace.ended()) {
      violation("an episode goes on after its limit of ", spec().max_steps, " steps (seed ", seed, ")");
    }
    if (trace.truncated && steps < spec().max_steps) {
      violation("an episode is truncated after ", steps, " steps, before its limit of ", spec().max_steps, " (seed ",
                seed, ")");
    }
  }

  void check_values(const Trace& trace, uint64_t seed) {
    Episode episode;
    episode.id = cat("seed ", seed);
    episode.num_steps = static_cast<int64_t>(trace.actions.size());
    episode.observation.resize(spec().observation.size());
    episode.action.resize(spec().action.size());
    for (size_t step = 0; step < trace.actions.size(); ++step) {
      if (trace.observations[step].size() != spec().observation.size()) {
        return violation("an observation has ", trace.observations[step].size(), " fields instead of ",
                         spec().observation.size());
      }
      for (size_t i = 0; i < spec().observation.size(); ++i) {
        episode::append_value(episode.observation[i], spec().observation[i], trace.observations[step][i]);
      }
      for (size_t i = 0; i < spec().action.size(); ++i) {
        episode::append_value(episode.action[i], spec().action[i], trace.actions[step][i]);
      }
    }
    for (const double reward : trace.rewards) episode.reward.push_back(static_cast<float>(reward));
    episode.terminated = trace.terminated;
    episode.truncated = trace.truncated;
    episode.success = trace.success;
    try {
      episode::check_episode(spec(), episode);
    } catch (const DataError& error) {
      violation("values outside the specification: ", error.what());
    }
  }

  void check_finite(const StepValues& values) {
    for (size_t i = 0; i < values.size(); ++i) {
      const auto& numbers = values[i].continuous;
      if (!std::all_of(numbers.begin(), numbers.end(), [](float value) { return std::isfinite(value); })) {
        violation("observation field '", spec().observation[i].name, "' holds a number that is not finite");
      }
    }
  }

  // ---- the checks ----

  void check_random_play() {
    std::optional<bool> defines_success;
    for (int e = 0; e < options_.episodes; ++e) {
      const Trace trace = play_random(*environment_, seed(e));
      check_trace(trace, seed(e));
      if (trace.ended()) {
        if (defines_success && *defines_success != trace.success.has_value()) {
          violation("success is set at the end of some episodes and not of others");
        }
        defines_success = trace.success.has_value();
      }
      if (replay(*environment_, seed(e), trace) != trace) violation("the same seed and actions gave another episode");
      const std::unique_ptr<Environment> other = entry_.make();
      if (replay(*other, seed(e), trace) != trace) violation("another object gave another episode of the same seed");
    }
  }

  void check_bad_actions() {
    Rng random(seed(0));
    const StepValues good = random_action(spec(), random);
    const auto reject = [&](const std::string& what, const StepValues& action) {
      environment_->reset(seed(0));
      expect_error<DataError>(what, "DataError", [&] { static_cast<void>(environment_->step(action)); });
    };
    reject("an action without fields", {});
    for (size_t i = 0; i < good.size(); ++i) {
      const FieldSpec& field = spec().action[i];
      StepValues bad = good;
      if (field.modality == Modality::kDiscrete) {
        bad[i].discrete[0] = static_cast<int32_t>(field.num_values);
        reject(cat("the value ", field.num_values, " in action field '", field.name, "'"), bad);
        bad[i].discrete[0] = -1;
        reject(cat("the value -1 in action field '", field.name, "'"), bad);
        bad[i].discrete.clear();
        reject(cat("no value in action field '", field.name, "'"), bad);
      } else if (field.modality == Modality::kContinuous) {
        bad[i].continuous[0] = std::numeric_limits<float>::quiet_NaN();
        reject(cat("NaN in action field '", field.name, "'"), bad);
        bad[i].continuous.clear();
        reject(cat("no number in action field '", field.name, "'"), bad);
      } else if (field.modality == Modality::kText) {
        bad[i].text = "\xff";
        reject(cat("invalid UTF-8 in action field '", field.name, "'"), bad);
      }
    }
  }

  /// Beyond a bound and on it must be the same.
  void check_clipping() {
    for (size_t i = 0; i < spec().action.size(); ++i) {
      if (spec().action[i].modality != Modality::kContinuous) continue;
      for (const bool up : {false, true}) {
        if (step_at_bound(i, up, 0.0F) != step_at_bound(i, up, 10.0F)) {
          violation("action field '", spec().action[i].name, "' is not clipped at its ", up ? "upper" : "lower",
                    " bounds");
        }
      }
    }
  }

  Trace step_at_bound(size_t field_index, bool up, float beyond) {
    const FieldSpec& field = spec().action[field_index];
    Rng random(seed(0));
    StepValues action = random_action(spec(), random);
    for (int64_t e = 0; e < field.num_elements(); ++e) {
      action[field_index].continuous[static_cast<size_t>(e)] =
          up ? field.high_of(e) + beyond : field.low_of(e) - beyond;
    }
    Trace trace = play(
        *environment_, environment_->reset(seed(0)), [&] { return action; }, 3);
    trace.actions.clear();
    return trace;
  }

  void check_misuse() {
    Rng random(seed(1));
    const std::unique_ptr<Environment> fresh = entry_.make();
    const StepValues action = random_action(spec(), random);
    expect_error<ContractError>("a step before reset", "ContractError",
                                [&] { static_cast<void>(fresh->step(action)); });
    const Trace trace = play_random(*fresh, seed(1));
    if (!trace.ended()) return;
    expect_error<ContractError>("a step after the end", "ContractError",
                                [&] { static_cast<void>(fresh->step(action)); });
  }

  void check_snapshots() {
    StepValues observation = environment_->reset(seed(2));
    const std::optional<std::string> start = environment_->snapshot();
    if (!start) {
      return expect_error<ContractError>("restore without snapshots", "ContractError",
                                         [&] { environment_->restore(""); });
    }
    const Trace whole = play_random(*environment_, seed(2));
    const size_t half = whole.actions.size() / 2;
    environment_->reset(seed(2));
    for (size_t i = 0; i < half; ++i) static_cast<void>(environment_->step(whole.actions[i]));
    const std::string middle = environment_->snapshot().value();
    const Trace rest = play_on(*environment_, whole.observations[half], whole, half);
    environment_->restore(middle);
    if (play_on(*environment_, whole.observations[half], whole, half) != rest) {
      violation("play after restore differs from play after the snapshot");
    }
    const std::unique_ptr<Environment> other = entry_.make();
    other->restore(*start);
    if (play_on(*other, std::move(observation), whole, 0) != whole) {
      violation("a snapshot restored in another object gives another episode");
    }
    std::string flipped = middle;
    if (!flipped.empty()) flipped[flipped.size() / 2] = static_cast<char>(flipped[flipped.size() / 2] ^ 0x10);
    expect_error<Error>("a damaged snapshot", "DataError", [&] { environment_->restore(flipped); });
    expect_error<Error>("a truncated snapshot", "DataError",
                        [&] { environment_->restore(middle.substr(0, middle.size() / 2)); });
  }

  void check_frames() {
    environment_->reset(seed(0));
    const std::optional<Image> first = environment_->frame();
    if (!first) return;
    check_frame(*first, *first);
    const Trace before = play_random(*environment_, seed(0));
    Rng random(mix_seed(seed(0), {hash_name("conformance")}));
    StepValues observation = environment_->reset(seed(0));
    const ChooseAction look_and_choose = [&] {
      const std::optional<Image> frame = environment_->frame();
      frame ? check_frame(*frame, *first) : violation("frame gives a picture at the start and none later");
      return random_action(spec(), random);
    };
    const size_t some_steps = std::min<size_t>(before.actions.size(), 10);
    const Trace seen = play(*environment_, std::move(observation), look_and_choose, some_steps);
    if (!std::equal(seen.observations.begin(), seen.observations.end(), before.observations.begin())) {
      violation("looking at frames changes the episode");
    }
  }

  void check_frame(const Image& frame, const Image& first) {
    const int64_t bytes = int64_t{frame.height} * frame.width * 3;
    if (frame.height < 1 || frame.width < 1 || static_cast<int64_t>(frame.pixels.size()) != bytes) {
      violation("a frame of ", frame.height, " x ", frame.width, " pixels has ", frame.pixels.size(), " bytes");
    }
    if (frame.height != first.height || frame.width != first.width) violation("frames of one episode differ in size");
  }

  /// Objects played at the same time in several threads must not disturb each other.
  void check_threads() {
    constexpr int kThreads = 4;
    std::vector<Trace> alone, together(kThreads);
    for (int i = 0; i < kThreads; ++i) alone.push_back(play_random(*entry_.make(), seed(i)));
    parallel_for(
        kThreads,
        [&](int64_t i) { together[static_cast<size_t>(i)] = play_random(*entry_.make(), seed(static_cast<int>(i))); },
        kThreads);
    if (together != alone) violation("episodes played in several threads at once differ from those played alone");
  }

  Trace play_expert(uint64_t seed) {
    const std::unique_ptr<Environment> environment = entry_.make();
    const std::unique_ptr<Expert> expert = entry_.make_expert(*environment);
    StepValues observation = environment->reset(seed);
    expert->begin_episode();
    return play(
        *environment, std::move(observation),
        [&] {
          StepValues action = expert->act();
          check_expert_action(action, environment->reference_answer());
          return action;
        },
        step_limit());
  }

  void check_expert_action(const StepValues& action, const std::optional<std::string>& reference) {
    try {
      check_action(spec(), action);
    } catch (const DataError& error) {
      return violation("the expert's action is not valid: ", error.what());
    }
    for (size_t i = 0; i < action.size(); ++i) {
      const FieldSpec& field = spec().action[i];
      for (size_t e = 0; e < action[i].continuous.size(); ++e) {
        const float value = action[i].continuous[e];
        if (value < field.low_of(static_cast<int64_t>(e)) || value > field.high_of(static_cast<int64_t>(e))) {
          violation("the expert's action leaves the bounds of field '", field.name, "'");
        }
      }
      if (spec().scoring == episode::Scoring::kExactMatch && field.modality == Modality::kText) {
        if (!reference) violation("it is judged by exact match, but gives no reference answer");
        if (reference && action[i].text != *reference) violation("the expert does not answer as the reference does");
      }
    }
  }

  void check_expert() {
    if (!entry_.make_expert) return;
    double expert = 0, random = 0;
    for (int e = 0; e < options_.expert_episodes; ++e) {
      const Trace trace = play_expert(seed(e));
      check_trace(trace, seed(e));
      expert += trace.total() / options_.expert_episodes;
      random += play_random(*environment_, seed(e)).total() / options_.expert_episodes;
    }
    if (spec().scoring != episode::Scoring::kLoss && expert <= random) {
      violation("the expert's mean return ", expert, " does not exceed that of random play, ", random);
    }
    if (play_expert(seed(0)) != play_expert(seed(0))) violation("the expert plays the same episode in different ways");
  }

  const TaskEntry& entry_;
  const ConformanceOptions& options_;
  std::unique_ptr<Environment> environment_;
  std::vector<std::string> violations_;
};

}  // namespace

std::vector<std::string> check_environment(const TaskEntry& entry, const ConformanceOptions& options) {
  return Checker(entry, options).run();
}

}  // namespace gato::env
