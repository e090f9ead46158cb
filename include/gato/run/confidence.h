#pragma once
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace gato::run {

/// 95 % interval of the mean of `values` by the percentile bootstrap: `resamples` means of samples drawn with
/// replacement, their 2.5 and 97.5 percentiles (linear interpolation). A pure function of its arguments. `values` not
/// empty, finite.
[[nodiscard]] std::pair<double, double> bootstrap_mean_ci95(std::span<const double> values, uint64_t seed,
                                                            int64_t resamples = 2000);

/// The means behind it: of `resamples` samples drawn with replacement, in the order they were drawn.
[[nodiscard]] std::vector<double> bootstrap_means(std::span<const double> values, uint64_t seed,
                                                  int64_t resamples = 2000);
/// The 2.5 and 97.5 percentiles (linear interpolation) of values, which are not empty.
[[nodiscard]] std::pair<double, double> percentile_ci95(std::vector<double> values);

/// 95 % Wilson score interval of a proportion (E. B. Wilson, JASA 22, 1927). 0 <= successes <= trials, trials > 0.
[[nodiscard]] std::pair<double, double> wilson_ci95(int64_t successes, int64_t trials);

}  // namespace gato::run
