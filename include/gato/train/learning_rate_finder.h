#pragma once
#include <functional>
#include <vector>

#include "gato/train/config.h"

namespace gato::train {

struct LearningRateSearch {
  int64_t steps = 100;   ///< Of the search, >= 10; also the rows it trains on, in batches.
  double lowest = 1e-6;  ///< First rate.
  double highest = 1;    ///< Last rate; the search ends before, once the loss has gone up by half.
};

/// One step of a search.
struct LearningRateTrial {
  double rate = 0;
  double loss = 0;      ///< Nats per summed loss weight.
  double smoothed = 0;  ///< Bias-corrected moving average of the losses up to here.
};

struct LearningRateFindings {
  std::vector<LearningRateTrial> trials;
  double steepest = 0;   ///< Where the smoothed loss falls fastest per factor of rate; 0: it never fell.
  double lowest_at = 0;  ///< Where the smoothed loss is lowest.
  double suggested = 0;  ///< A tenth of lowest_at, but not above steepest; 0: none.
};

/// The learning-rate range test (Smith 2017, "Cyclical Learning Rates", section 3.3): a fresh model is trained on the
/// run's first rows while the rate grows from step to step by the same factor. Writes nothing. `report` is told every
/// trial. Throws as train() does, and ConfigError for a search that makes no sense.
LearningRateFindings find_learning_rate(const TrainingConfig& config, const LearningRateSearch& search,
                                        const std::function<void(const LearningRateTrial&)>& report = {});

/// What the trials say; for tests and for those who have trials from elsewhere.
[[nodiscard]] LearningRateFindings judge_trials(std::vector<LearningRateTrial> trials);

}  // namespace gato::train
