#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gato/run/results.h"

/// Two evaluations side by side on the same episodes.
namespace gato::run {

/// One task of both.
struct TaskComparison {
  int64_t rollouts = 0;                       ///< With the same seed in both.
  double score_a = 0, score_b = 0;            ///< On these rollouts, in percent as summarise() has them.
  std::pair<double, double> difference_ci95;  ///< Of score_b - score_a, by resampling pairs.
  double probability_b_better = 0.5;          ///< Share of resamples with b above a, ties counted half.
};

struct Comparison {
  std::map<std::string, TaskComparison> tasks;
  std::map<std::string, std::string> left_out;  ///< Tasks that only one has or that cannot be compared, and why.
  double mean_a = 0, mean_b = 0;                ///< Over tasks per domain, then over domains.
  std::pair<double, double> difference_ci95;
  double probability_b_better = 0.5;
};

/// Compares on the rollouts whose seeds both have. Resampling takes a seed's rollout of a and of b together, so that
/// luck of the draw that both shared cancels; tasks are resampled independently of each other (stratified paired
/// bootstrap). A pure function of its arguments. ConfigError when no task can be compared.
[[nodiscard]] Comparison compare_results(const std::vector<TaskResult>& a, const std::vector<TaskResult>& b,
                                         int64_t resamples = 2000);

}  // namespace gato::run
