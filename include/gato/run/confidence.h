#pragma once
#include <cstdint>
#include <span>
#include <utility>

namespace gato::run {

/// 95 % interval of the mean of `values` by the percentile bootstrap: `resamples` means of samples drawn with
/// replacement, their 2.5 and 97.5 percentiles (linear interpolation). A pure function of its arguments. `values` not
/// empty, finite.
[[nodiscard]] std::pair<double, double> bootstrap_mean_ci95(std::span<const double> values, uint64_t seed,
                                                            int64_t resamples = 2000);

/// 95 % Wilson score interval of a proportion (E. B. Wilson, JASA 22, 1927). 0 <= successes <= trials, trials > 0.
[[nodiscard]] std::pair<double, double> wilson_ci95(int64_t successes, int64_t trials);

}  // namespace gato::run
