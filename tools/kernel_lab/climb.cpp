#include "kernel_lab/climb.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "cuda_emulation/emulated_device.h"
#include "cuda_emulation/language.h"
#include "gato/core/random.h"

namespace gato::kernel_lab {
namespace {

double value_of(uint16_t bits) { return static_cast<double>(cuda_emulation::widen(cuda_emulation::BFloat16{bits})); }

std::vector<uint16_t> random_matrix(int tokens, Rng& rng) {
  std::vector<uint16_t> matrix(static_cast<size_t>(tokens) * kHeadDim);
  for (uint16_t& x : matrix) x = cuda_emulation::narrow_bfloat16(static_cast<float>(rng.normal())).bits;
  return matrix;
}

/// Result of query `t`, added to `out`.
void attend_exactly(const Problem& problem, size_t t, double* out) {
  std::vector<double> weights;
  for (size_t j = 0; j <= t; ++j) {
    double score = 0;
    for (size_t d = 0; d < kHeadDim; ++d) {
      score += value_of(problem.query[t * kHeadDim + d]) * value_of(problem.key[j * kHeadDim + d]);
    }
    weights.push_back(score / 8);
  }
  const double largest = *std::max_element(weights.begin(), weights.end());
  double total = 0;
  for (double& weight : weights) total += weight = std::exp(weight - largest);
  for (size_t j = 0; j <= t; ++j) {
    for (size_t d = 0; d < kHeadDim; ++d) out[d] += weights[j] / total * value_of(problem.value[j * kHeadDim + d]);
  }
}

}  // namespace

Problem make_problem(int tokens, uint64_t seed) {
  Rng rng(seed);
  Problem problem;
  problem.tokens = tokens;
  problem.query = random_matrix(tokens, rng);
  problem.key = random_matrix(tokens, rng);
  problem.value = random_matrix(tokens, rng);
  problem.out.assign(problem.query.size(), 0.0);
  for (size_t t = 0; t < static_cast<size_t>(tokens); ++t) {
    attend_exactly(problem, t, problem.out.data() + t * kHeadDim);
  }
  return problem;
}

Climb climb(const Rung& rung, const Problem& problem, uint32_t schedule_seed) {
  cuda_emulation::Options options;
  options.schedule_seed = schedule_seed;
  cuda_emulation::Device device(options);
  const auto query = device.input("query", problem.query), key = device.input("key", problem.key);
  const auto value = device.input("value", problem.value);
  const auto out = device.buffer<uint16_t>("out", problem.query.size());
  rung.attend({problem.tokens, query.data(), key.data(), value.data(), out.data()}, nullptr);
  Climb climb;
  climb.counters = device.counters(rung.name);
  if (device.num_faults() > 0) climb.fault = device.faults().front().message;
  device.take_faults();
  climb.results = out.download();
  for (size_t i = 0; i < problem.out.size(); ++i) {
    const double error = std::abs(value_of(climb.results[i]) - problem.out[i]);
    climb.worst_error = error == error ? std::max(climb.worst_error, error) : std::numeric_limits<double>::infinity();
  }
  return climb;
}

}  // namespace gato::kernel_lab
