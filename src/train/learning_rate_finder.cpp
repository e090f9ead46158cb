#include "gato/train/learning_rate_finder.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "attention_record.h"
#include "gato/core/error.h"
#include "gato/core/signals.h"
#include "gato/core/threads.h"
#include "gato/kernels/device.h"
#include "session.h"

namespace gato::train {
namespace {

constexpr double kSmoothing = 0.9;
constexpr double kDiverged = 1.5;  // times the lowest smoothed loss: further on there is nothing to learn

void check_search(const LearningRateSearch& search) {
  if (search.steps >= 10 && search.lowest > 0 && search.highest > search.lowest && search.highest <= 100) return;
  throw ConfigError(cat("a search of ", search.steps, " steps from a learning rate of ", search.lowest, " to ",
                        search.highest, " makes no sense: at least 10 steps, 0 < lowest < highest <= 100"));
}

/// The rate is set before every step: no schedule on top of it.
TrainingConfig search_config(TrainingConfig config) {
  config.optimizer.warmup_steps = 0;
  config.optimizer.final_share = 1;
  return config;
}

}  // namespace

LearningRateFindings judge_trials(std::vector<LearningRateTrial> trials) {
  LearningRateFindings findings;
  constexpr size_t kSettling = 3;  // the average of fewer is noise
  double best = 0, slope = 0;
  for (size_t i = kSettling; i < trials.size(); ++i) {
    const LearningRateTrial &trial = trials[i], &before = trials[i - 1];
    if (findings.lowest_at == 0 || trial.smoothed < best) {
      best = trial.smoothed;
      findings.lowest_at = trial.rate;
    }
    const double fall = (before.smoothed - trial.smoothed) / std::log(trial.rate / before.rate);
    if (fall > slope) {
      slope = fall;
      findings.steepest = trial.rate;
    }
  }
  if (findings.steepest > 0) findings.suggested = std::min(findings.lowest_at / 10, findings.steepest);
  findings.trials = std::move(trials);
  return findings;
}

LearningRateFindings find_learning_rate(const TrainingConfig& original, const LearningRateSearch& search,
                                        const std::function<void(const LearningRateTrial&)>& report) {
  check_search(search);
  TrainingConfig config = search_config(original);
  const at::Device device = kernels::open_device(config.train.device);
  set_attention(config, device);
  const data::OpenedData data = open_data(config);
  set_thread_budget(static_cast<int>(config.train.threads));
  at::set_num_threads(thread_budget());
  model::Model model(config.model, model_shape(*data.vocabulary), static_cast<uint64_t>(config.train.seed),
                     model::Model::Purpose::kTraining, device);
  OptimizerState optimizer{at::zeros_like(model.store().values()), at::zeros_like(model.store().values())};
  Stepper stepper(config, model, optimizer);
  const InputPreparer inputs(device, config);
  const data::RowBuilder builder(data.plan, true);
  check_named_route(config, builder.build(0, 1), device);
  LabelMeter meter(*data.plan);
  TrainingState state;
  std::vector<LearningRateTrial> trials;
  double average = 0, weight = 0, best = 0;
  for (int64_t step = 0; step < search.steps; ++step) {
    throw_if_stopped("the search for a learning rate");
    const double share = static_cast<double>(step) / static_cast<double>(search.steps - 1);
    config.optimizer.learning_rate = search.lowest * std::pow(search.highest / search.lowest, share);
    const StepInput input = inputs.prepare(builder.build(state.next_row, config.train.batch_rows));
    inputs.wait_for(input);
    const StepResult result = stepper.run(input, state, meter);
    if (!result.refused.empty()) break;
    if (std::isnan(result.loss)) continue;  // a batch without labels
    average = kSmoothing * average + (1 - kSmoothing) * result.loss;
    weight = kSmoothing * weight + (1 - kSmoothing);
    trials.push_back({config.optimizer.learning_rate, result.loss, average / weight});
    if (report) report(trials.back());
    best = trials.size() == 1 ? trials.back().smoothed : std::min(best, trials.back().smoothed);
    if (trials.back().smoothed > kDiverged * best) break;
  }
  return judge_trials(std::move(trials));
}

}  // namespace gato::train
