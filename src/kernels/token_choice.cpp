#include "gato/kernels/token_choice.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "gato/core/error.h"

namespace gato::kernels {
namespace {

int32_t find_best(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

std::vector<double> probabilities(std::span<const float> logits, double temperature) {
  const double top = *std::max_element(logits.begin(), logits.end());
  std::vector<double> p;
  p.reserve(logits.size());
  double sum = 0;
  for (const float logit : logits) {
    p.push_back(std::exp((static_cast<double>(logit) - top) / temperature));
    sum += p.back();
  }
  for (double& value : p) value /= sum;
  return p;
}

/// Sets all but the likeliest ids, which together have at least `top_p`, to 0, and makes the rest sum to 1 (nucleus
/// sampling, Holtzman et al. 2020).
void keep_nucleus(std::vector<double>& p, double top_p) {
  if (top_p >= 1) return;
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return p[a] > p[b]; });
  double kept = 0;
  size_t count = 0;
  while (count < order.size() && kept < top_p) kept += p[order[count++]];
  for (size_t i = count; i < order.size(); ++i) p[order[i]] = 0;
  for (double& value : p) value /= kept;
}

int32_t sample(const std::vector<double>& p, double uniform) {
  for (size_t i = 0; i < p.size(); ++i) {
    uniform -= p[i];
    if (uniform < 0) return static_cast<int32_t>(i);
  }
  return static_cast<int32_t>(std::max_element(p.begin(), p.end()) - p.begin());
}

int32_t mean_bin(const std::vector<double>& p) {
  double mean = 0;
  for (size_t bin = 0; bin < p.size(); ++bin)
    mean += p[bin] * static_cast<double>(value_of_bin(static_cast<int32_t>(bin)));
  return bin_of_value(static_cast<float>(mean));
}

}  // namespace

float value_of_bin(int32_t bin) { return static_cast<float>((2.0 * bin + 1) / kNumValueBins - 1); }

int32_t bin_of_value(float value) {
  const double inside = value >= -1 ? std::min(static_cast<double>(value), 1.0) : -1.0;  // -1 for NaN
  return std::min(static_cast<int32_t>((inside + 1) * (kNumValueBins / 2)), kNumValueBins - 1);
}

int32_t choose_token(const TokenChoice& how, std::span<const float> logits) {
  GATO_CHECK(how.num_ids > 0 && logits.size() == static_cast<size_t>(how.num_ids), logits.size(), " logits for ",
             how.num_ids, " ids");
  if (how.choice == Choice::kGreedy) return how.first_id + find_best(logits);
  GATO_CHECK(how.temperature > 0, "a temperature must be positive, is ", how.temperature);
  auto p = probabilities(logits, how.temperature);
  if (how.choice == Choice::kMean) {
    GATO_CHECK(how.num_ids == kNumValueBins, "a mean over ", how.num_ids, " ids: there are ", kNumValueBins, " bins");
    return how.first_id + mean_bin(p);
  }
  keep_nucleus(p, how.top_p);
  return how.first_id + sample(p, how.uniform);
}

}  // namespace gato::kernels
