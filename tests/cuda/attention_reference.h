#pragma once
// Attention problems for the tests of the attention kernels, and their solution in plain fp64 loops.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "cuda/kernel_test.h"

namespace gato::kernel_tests {

/// How a row of tokens is cut into sequences.
enum class Documents {
  kOne,
  kMany,       ///< Lengths from 1 to 70.
  kEachToken,  ///< Every token is a sequence of its own.
  kMasked,     ///< As kMany, but a third of the tokens see nothing: their start lies behind them.
};

struct AttentionProblem {
  int64_t rows = 1, tokens = 0, heads = 1, head_dim = 0;
  Element element = Element::kBFloat16;
  std::vector<int32_t> starts;                         ///< [rows, tokens]
  std::vector<float> query, key, value, out_gradient;  ///< [rows, tokens, heads, head_dim], rounded to the element type
  std::vector<float> cosine, sine;                     ///< [tokens, head_dim / 2]; empty without rotation.

  [[nodiscard]] int64_t size() const { return rows * tokens * heads * head_dim; }
  [[nodiscard]] size_t at(int64_t row, int64_t token, int64_t head) const {
    return static_cast<size_t>(((row * tokens + token) * heads + head) * head_dim);
  }
  [[nodiscard]] int64_t start(int64_t row, int64_t token) const {
    return starts[static_cast<size_t>(row * tokens + token)];
  }
};

struct AttentionSolution {
  std::vector<double> out, log_sum_exp;  ///< [rows, tokens, heads, head_dim], [rows, heads, tokens]
  std::vector<double> query_gradient, key_gradient, value_gradient;
};

inline std::vector<int32_t> make_starts(Documents documents, int64_t rows, int64_t tokens, uint64_t seed) {
  Rng rng(seed);
  std::vector<int32_t> starts;
  for (int64_t row = 0; row < rows; ++row) {
    int32_t begin = 0;
    int64_t length = 1 + static_cast<int64_t>(rng.below(70));
    for (int32_t t = 0; t < tokens; ++t) {
      if (documents == Documents::kEachToken || (documents != Documents::kOne && t - begin == length)) {
        begin = t;
        length = 1 + static_cast<int64_t>(rng.below(70));
      }
      const bool masked = documents == Documents::kMasked && rng.below(3) == 0;
      starts.push_back(masked ? t + 1 + static_cast<int32_t>(rng.below(40)) : begin);
    }
  }
  return starts;
}

inline void make_rotary(int64_t positions, int64_t head_dim, std::vector<float>& cosine, std::vector<float>& sine) {
  for (int64_t p = 0; p < positions; ++p) {
    for (int64_t i = 0; i < head_dim / 2; ++i) {
      const double angle =
          static_cast<double>(p) * std::pow(100.0, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
      cosine.push_back(static_cast<float>(std::cos(angle)));
      sine.push_back(static_cast<float>(std::sin(angle)));
    }
  }
}

/// Seeded values for a problem whose sizes and element type are set.
inline void fill(AttentionProblem& problem, Documents documents, bool rotary, uint64_t seed) {
  problem.starts = make_starts(documents, problem.rows, problem.tokens, seed);
  problem.query = rounded(problem.element, normal_values(problem.size(), seed + 1));
  problem.key = rounded(problem.element, normal_values(problem.size(), seed + 2));
  problem.value = rounded(problem.element, normal_values(problem.size(), seed + 3));
  problem.out_gradient = rounded(problem.element, normal_values(problem.size(), seed + 4));
  if (rotary) make_rotary(problem.tokens, problem.head_dim, problem.cosine, problem.sine);
}

/// x [head_dim] rotated by the angles of `position`, or backwards for direction -1.
inline std::vector<double> rotated(const AttentionProblem& problem, int64_t position, double direction,
                                   std::vector<double> x) {
  if (problem.cosine.empty()) return x;
  const auto half = static_cast<size_t>(problem.head_dim / 2);
  const size_t table = static_cast<size_t>(std::max<int64_t>(position, 0)) * half;
  for (size_t i = 0; i < half; ++i) {
    const double c = problem.cosine[table + i];
    const double s = direction * problem.sine[table + i];
    const double low = x[i];
    x[i] = low * c - x[half + i] * s;
    x[half + i] = x[half + i] * c + low * s;
  }
  return x;
}

inline double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// One head of one row, as rows of doubles.
class ReferenceHead {
 public:
  ReferenceHead(const AttentionProblem& problem, int64_t row, int64_t head)
      : problem_(problem), row_(row), head_(head), scale_(1 / std::sqrt(static_cast<double>(problem.head_dim))) {
    for (int64_t t = 0; t < problem.tokens; ++t) {
      query_.push_back(rotated(problem, position(t), 1, vector(problem.query, t)));
      key_.push_back(rotated(problem, position(t), 1, vector(problem.key, t)));
      value_.push_back(vector(problem.value, t));
      out_gradient_.push_back(vector(problem.out_gradient, t));
    }
    const std::vector<double> zero(static_cast<size_t>(problem.head_dim), 0.0);
    query_gradient_.assign(query_.size(), zero);
    key_gradient_ = value_gradient_ = query_gradient_;
  }

  void solve(AttentionSolution& solution, bool backward) {
    const auto tokens = static_cast<size_t>(problem_.tokens);
    for (size_t t = 0; t < tokens; ++t) solve_query(t, solution, backward);
    for (size_t t = 0; t < tokens && backward; ++t) {
      const auto token = static_cast<int64_t>(t);
      put(rotated(problem_, position(token), -1, query_gradient_[t]), token, solution.query_gradient);
      put(rotated(problem_, position(token), -1, key_gradient_[t]), token, solution.key_gradient);
      put(value_gradient_[t], token, solution.value_gradient);
    }
  }

 private:
  [[nodiscard]] int64_t position(int64_t token) const { return token - problem_.start(row_, token); }
  [[nodiscard]] std::vector<double> vector(const std::vector<float>& all, int64_t token) const {
    const auto begin = all.begin() + static_cast<int64_t>(problem_.at(row_, token, head_));
    return {begin, begin + problem_.head_dim};
  }
  void put(const std::vector<double>& x, int64_t token, std::vector<double>& all) const {
    std::copy(x.begin(), x.end(), all.begin() + static_cast<int64_t>(problem_.at(row_, token, head_)));
  }

  void solve_query(size_t t, AttentionSolution& solution, bool backward) {
    const auto first = static_cast<size_t>(problem_.start(row_, static_cast<int64_t>(t)));
    std::vector<double> weight;
    double top = -INFINITY;
    double total = 0;
    for (size_t j = first; j <= t; ++j) {
      weight.push_back(scale_ * dot(query_[t], key_[j]));
      top = std::max(top, weight.back());
    }
    for (double& w : weight) total += w = std::exp(w - top);
    for (double& w : weight) w /= total;
    std::vector<double> out(static_cast<size_t>(problem_.head_dim), 0.0);
    for (size_t j = first; j <= t; ++j) add(weight[j - first], value_[j], out);
    put(out, static_cast<int64_t>(t), solution.out);
    solution.log_sum_exp[static_cast<size_t>((row_ * problem_.heads + head_) * problem_.tokens) + t] =
        weight.empty() ? -INFINITY : top + std::log(total);
    if (!backward) return;
    const double delta = dot(out_gradient_[t], out);
    for (size_t j = first; j <= t; ++j) {
      const double p = weight[j - first];
      const double score_gradient = scale_ * p * (dot(out_gradient_[t], value_[j]) - delta);
      add(score_gradient, key_[j], query_gradient_[t]);
      add(score_gradient, query_[t], key_gradient_[j]);
      add(p, out_gradient_[t], value_gradient_[j]);
    }
  }
  static void add(double factor, const std::vector<double>& x, std::vector<double>& to) {
    for (size_t i = 0; i < x.size(); ++i) to[i] += factor * x[i];
  }

  const AttentionProblem& problem_;
  int64_t row_, head_;
  double scale_;
  std::vector<std::vector<double>> query_, key_, value_, out_gradient_;
  std::vector<std::vector<double>> query_gradient_, key_gradient_, value_gradient_;
};

inline AttentionSolution solve(const AttentionProblem& problem, bool backward = true) {
  AttentionSolution solution;
  const auto size = static_cast<size_t>(problem.size());
  solution.out.assign(size, 0.0);
  solution.log_sum_exp.assign(static_cast<size_t>(problem.rows * problem.heads * problem.tokens), 0.0);
  if (backward) {
    solution.query_gradient.assign(size, 0.0);
    solution.key_gradient = solution.value_gradient = solution.query_gradient;
  }
  for (int64_t row = 0; row < problem.rows; ++row) {
    for (int64_t head = 0; head < problem.heads; ++head) ReferenceHead(problem, row, head).solve(solution, backward);
  }
  return solution;
}

}  // namespace gato::kernel_tests
