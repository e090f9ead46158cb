#include "gato/env/planner.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/random.h"
#include "gato/core/threads.h"

namespace gato::env {
namespace {

constexpr double kWorst = -std::numeric_limits<double>::infinity();
constexpr double kRoundShrink = 0.5;  // of the noise from one round to the next
constexpr double kFineNoise = 0.3;    // of every second sample: big changes find a way, small ones follow it

/// Actions over the horizon, in [-1, 1] per element (the share of half the range from its middle).
using Knots = std::vector<double>;  // knots x elements

void check_options(const PlannerOptions& options) {
  const auto check = [](bool fine, const char* name, const char* range) {
    if (!fine) throw ConfigError(cat("Planner: ", name, " must be ", range, "."));
  };
  check(options.horizon >= 2 && options.horizon <= 100000, "horizon", "2 to 100000");
  check(options.knots >= 2 && options.knots <= options.horizon, "knots", "2 to the horizon");
  check(options.samples >= 2 && options.samples <= 1000000, "samples", "2 to 1000000");
  check(options.rounds >= 1 && options.rounds <= 1000, "rounds", "1 to 1000");
  check(options.replan_every >= 1 && options.replan_every <= options.horizon, "replan_every", "1 to the horizon");
  check(options.noise > 0 && options.noise <= 10, "noise", "above 0, at most 10");
  check(options.discount > 0 && options.discount <= 1, "discount", "above 0, at most 1");
  check(options.temperature >= 0 && options.temperature <= 1000, "temperature", "0 to 1000");
  check(options.threads >= 0, "threads", "0 or more");
}

class Planner final : public Expert {
 public:
  Planner(Environment& environment, std::function<std::unique_ptr<Environment>()> make, PlannerOptions options)
      : environment_(environment), make_(std::move(make)), options_(std::move(options)) {
    check_options(options_);
    for (const episode::FieldSpec& field : environment.spec().action) {
      GATO_CHECK(field.modality == episode::Modality::kContinuous, "task ", environment.spec().id,
                 " cannot be planned: action '", field.name, "' is not continuous");
      elements_ += static_cast<size_t>(field.num_elements());
    }
    const auto at_most = static_cast<int>(options_.samples);
    const int threads = options_.threads > 0 ? options_.threads : thread_budget();
    workers_.resize(static_cast<size_t>(std::min(threads, at_most)));
    begin_episode();
  }

  void begin_episode() override {
    plan_.assign(knots() * elements_, 0.0);
    plannings_ = 0;
    played_ = 0;
  }

  StepValues act() override {
    if (plannings_ == 0 || played_ == options_.replan_every) plan();
    return action_at(plan_, played_++);
  }

 private:
  [[nodiscard]] size_t knots() const { return static_cast<size_t>(options_.knots); }

  /// Time between two knots, in steps.
  [[nodiscard]] double spacing() const { return static_cast<double>(options_.horizon - 1) / (options_.knots - 1); }

  /// Element `element` of a plan at `time` steps; the last knot holds beyond the end.
  [[nodiscard]] double value_at(const Knots& plan, double time, size_t element) const {
    const double place = std::clamp(time / spacing(), 0.0, static_cast<double>(knots() - 1));
    const size_t left = std::min(static_cast<size_t>(place), knots() - 2);
    const double share = place - static_cast<double>(left);
    return plan[left * elements_ + element] * (1 - share) + plan[(left + 1) * elements_ + element] * share;
  }

  [[nodiscard]] StepValues action_at(const Knots& plan, int step) const {
    StepValues action(environment_.spec().action.size());
    size_t element = 0;
    for (size_t i = 0; i < action.size(); ++i) {
      const episode::FieldSpec& field = environment_.spec().action[i];
      for (int64_t e = 0; e < field.num_elements(); ++e) {
        const double low = static_cast<double>(field.low_of(e)), high = static_cast<double>(field.high_of(e));
        const double value = low + (high - low) * (1 + value_at(plan, step, element++)) / 2;
        action[i].continuous.push_back(std::clamp(static_cast<float>(value), field.low_of(e), field.high_of(e)));
      }
    }
    return action;
  }

  void plan() {
    const std::optional<std::string> state = environment_.snapshot();
    GATO_CHECK(state.has_value(), "task ", environment_.spec().id, " cannot be planned: it has no snapshots");
    shift(played_);
    played_ = 0;
    double noise = options_.noise;
    for (int round = 0; round < options_.rounds; ++round) {
      std::vector<Knots> samples = draw(round, noise);
      plan_ = outcome(samples, try_all(samples, *state));
      noise *= kRoundShrink;
    }
    ++plannings_;
  }

  /// Moves the plan's beginning `steps` ahead.
  void shift(int steps) {
    Knots moved = plan_;
    for (size_t knot = 0; knot < knots(); ++knot) {
      for (size_t e = 0; e < elements_; ++e) {
        moved[knot * elements_ + e] = value_at(plan_, static_cast<double>(knot) * spacing() + steps, e);
      }
    }
    plan_ = std::move(moved);
  }

  /// The plan itself and variants of it; each depends on its numbers alone, so threads make no difference.
  [[nodiscard]] std::vector<Knots> draw(int round, double noise) const {
    std::vector<Knots> samples(static_cast<size_t>(options_.samples), plan_);
    for (size_t i = 1; i < samples.size(); ++i) {
      Rng rng(mix_seed(options_.seed, {static_cast<uint64_t>(plannings_), static_cast<uint64_t>(round), i}));
      const double width = noise * (i % 2 == 0 ? kFineNoise : 1.0);
      for (double& knot : samples[i]) knot = std::clamp(knot + width * rng.normal(), -1.0, 1.0);
    }
    return samples;
  }

  [[nodiscard]] std::vector<double> try_all(const std::vector<Knots>& samples, const std::string& state) {
    std::vector<double> scores(samples.size(), kWorst);
    std::atomic<size_t> next = 0;
    const auto work = [&](int64_t worker) {
      std::unique_ptr<Environment>& place = workers_[static_cast<size_t>(worker)];
      if (place == nullptr) place = make_();
      for (size_t i = next++; i < samples.size(); i = next++) scores[i] = try_plan(*place, samples[i], state);
    };
    if (workers_.size() == 1) {
      work(0);
    } else {
      parallel_for(static_cast<int64_t>(workers_.size()), work, static_cast<int>(workers_.size()));
    }
    return scores;
  }

  [[nodiscard]] double try_plan(Environment& place, const Knots& plan, const std::string& state) const {
    place.restore(state);
    double total = 0, weight = 1;
    for (int step = 0; step < options_.horizon; ++step) {
      const StepResult result = place.step(action_at(plan, step));
      if (!result.failure.empty()) return kWorst;
      total += weight * (options_.score ? options_.score(place, result) : result.reward);
      weight *= options_.discount;
      if (result.done()) break;
    }
    return std::isfinite(total) ? total : kWorst;
  }

  /// What the samples and their scores make of the plan; the plan as it was where every sample failed.
  [[nodiscard]] Knots outcome(const std::vector<Knots>& samples, const std::vector<double>& scores) const {
    const auto best = static_cast<size_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
    if (options_.temperature == 0 || scores[best] == kWorst) return samples[best];
    double count = 0, mean = 0, square = 0;
    for (const double score : scores) {
      if (score == kWorst) continue;
      count += 1;
      mean += score;
      square += score * score;
    }
    mean /= count;
    const double deviation = std::sqrt(std::max(0.0, square / count - mean * mean));
    const double scale = std::max(options_.temperature * deviation, 1e-12);
    Knots sum(samples[best].size(), 0.0);
    double weights = 0;
    for (size_t i = 0; i < samples.size(); ++i) {
      const double weight = scores[i] == kWorst ? 0.0 : std::exp((scores[i] - scores[best]) / scale);
      weights += weight;
      for (size_t k = 0; k < sum.size(); ++k) sum[k] += weight * samples[i][k];
    }
    for (double& knot : sum) knot /= weights;
    return sum;
  }

  Environment& environment_;
  std::function<std::unique_ptr<Environment>()> make_;
  PlannerOptions options_;
  size_t elements_ = 0;
  std::vector<std::unique_ptr<Environment>> workers_;
  Knots plan_;
  int64_t plannings_ = 0;
  int played_ = 0;  // steps of the plan
};

}  // namespace

std::unique_ptr<Expert> make_planner(Environment& environment,
                                     const std::function<std::unique_ptr<Environment>()>& make,
                                     const PlannerOptions& options) {
  return std::make_unique<Planner>(environment, make, options);
}

}  // namespace gato::env
