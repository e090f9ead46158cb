#include "gato/run/confidence.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/random.h"

namespace gato::run {
namespace {

constexpr double kNormal975 = 1.959963984540054;  // 97.5 % point of the standard normal distribution

/// Quantile `q` of sorted values, linear between the order statistics (type 7 of Hyndman and Fan 1996).
double quantile(const std::vector<double>& sorted, double q) {
  const double position = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(position);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  const double share = position - static_cast<double>(below);
  return sorted[below] + share * (sorted[above] - sorted[below]);
}

}  // namespace

std::vector<double> bootstrap_means(std::span<const double> values, uint64_t seed, int64_t resamples) {
  GATO_CHECK(!values.empty() && resamples > 0, values.size(), " values, ", resamples, " resamples");
  GATO_CHECK(std::all_of(values.begin(), values.end(), [](double value) { return std::isfinite(value); }),
             "a value is not finite");
  Rng random(mix_seed(seed, {hash_name("bootstrap")}));
  const auto count = static_cast<int64_t>(values.size());
  std::vector<double> means;
  means.reserve(static_cast<size_t>(resamples));
  for (int64_t i = 0; i < resamples; ++i) {
    double sum = 0;
    for (int64_t k = 0; k < count; ++k) sum += values[static_cast<size_t>(random.below(count))];
    means.push_back(sum / static_cast<double>(count));
  }
  return means;
}

std::pair<double, double> percentile_ci95(std::vector<double> values) {
  GATO_CHECK(!values.empty(), "no values");
  std::sort(values.begin(), values.end());
  return {quantile(values, 0.025), quantile(values, 0.975)};
}

std::pair<double, double> bootstrap_mean_ci95(std::span<const double> values, uint64_t seed, int64_t resamples) {
  return percentile_ci95(bootstrap_means(values, seed, resamples));
}

std::pair<double, double> wilson_ci95(int64_t successes, int64_t trials) {
  GATO_CHECK(trials > 0 && successes >= 0 && successes <= trials, successes, " successes in ", trials, " trials");
  const auto n = static_cast<double>(trials);
  const double share = static_cast<double>(successes) / n;
  const double z2 = kNormal975 * kNormal975;
  const double centre = (share + z2 / (2 * n)) / (1 + z2 / n);
  const double half = kNormal975 * std::sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n);
  // At the ends the bound is exact, which rounding would miss.
  return {successes == 0 ? 0.0 : std::max(0.0, centre - half),
          successes == trials ? 1.0 : std::min(1.0, centre + half)};
}

}  // namespace gato::run
