#pragma once
// The parameters over which the attention kernels are tested, and the test of one case.
#include <gtest/gtest.h>

#include <array>
#include <set>
#include <string>

#include "cuda/attention_runner.h"

namespace gato::kernel_tests {

/// One attention problem of the tests.
struct Case {
  int64_t head_dim;
  Element element;
  int64_t tokens;
  Documents documents;
  bool rotary, packed;
  int64_t rows = 1, heads = 2;
};

inline constexpr std::array<int64_t, 3> kHeadDims{32, 64, 128};
inline constexpr std::array<Element, 2> kElements{Element::kBFloat16, Element::kFloat16};
inline constexpr std::array<int64_t, 5> kLengths{1, 31, 33, 100, 192};
inline constexpr std::array<Documents, 4> kDocuments{Documents::kOne, Documents::kMany, Documents::kEachToken,
                                                     Documents::kMasked};

using Choice = std::array<size_t, 6>;  // an index per parameter
inline constexpr Choice kValues{kHeadDims.size(), kElements.size(), kLengths.size(), kDocuments.size(), 2, 2};

inline Case make_case(const Choice& choice) {
  return {kHeadDims[choice[0]],  kElements[choice[1]], kLengths[choice[2]],
          kDocuments[choice[3]], choice[4] == 1,       choice[5] == 1};
}

inline std::vector<Choice> every_choice() {
  std::vector<Choice> all{Choice{}};
  for (size_t parameter = 0; parameter < kValues.size(); ++parameter) {
    std::vector<Choice> longer;
    for (const Choice& choice : all) {
      for (size_t value = 0; value < kValues[parameter]; ++value) {
        longer.push_back(choice);
        longer.back()[parameter] = value;
      }
    }
    all = std::move(longer);
  }
  return all;
}

using Pairs = std::set<std::array<size_t, 4>>;  // parameter, value, other parameter, value

inline Pairs pairs_of(const Choice& choice) {
  Pairs pairs;
  for (size_t i = 0; i < choice.size(); ++i) {
    for (size_t j = i + 1; j < choice.size(); ++j) pairs.insert({i, choice[i], j, choice[j]});
  }
  return pairs;
}

/// Choices in which every pair of values of two parameters occurs, each time the one with most pairs that are missing.
inline std::vector<Choice> pairwise_choices() {
  const std::vector<Choice> all = every_choice();
  Pairs missing;
  for (const Choice& choice : all) missing.merge(pairs_of(choice));
  std::vector<Choice> chosen;
  while (!missing.empty()) {
    size_t most = 0;
    Choice best{};
    for (const Choice& choice : all) {
      size_t count = 0;
      for (const auto& pair : pairs_of(choice)) count += missing.count(pair);
      if (count > most) {
        most = count;
        best = choice;
      }
    }
    for (const auto& pair : pairs_of(best)) missing.erase(pair);
    chosen.push_back(best);
  }
  return chosen;
}

inline std::vector<Case> cases_of(const std::vector<Choice>& choices) {
  std::vector<Case> cases;
  for (const Choice& choice : choices) cases.push_back(make_case(choice));
  return cases;
}

inline std::string name_of(const testing::TestParamInfo<Case>& info) {
  const Case& c = info.param;
  const std::array<const char*, 4> documents{"one", "many", "each_token", "masked"};
  return cat("d", c.head_dim, "_", element_name(c.element), "_t", c.tokens, "_",
             documents[static_cast<size_t>(c.documents)], c.rotary ? "_rotary" : "", c.packed ? "_packed" : "_separate",
             "_", info.index);
}

inline AttentionProblem make_problem(const Case& c, uint64_t seed = 7) {
  AttentionProblem problem;
  problem.rows = c.rows;
  problem.tokens = c.tokens;
  problem.heads = c.heads;
  problem.head_dim = c.head_dim;
  problem.element = c.element;
  fill(problem, c.documents, c.rotary, seed);
  return problem;
}

/// Root of the mean square of the difference, over that of the expectation: finds a small error everywhere, which a
/// bound for single values lets through.
inline double relative_error(const std::vector<float>& actual, const std::vector<double>& expected) {
  double difference = 0;
  double square = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    difference += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    square += expected[i] * expected[i];
  }
  return square > 0 ? std::sqrt(difference / square) : std::sqrt(difference);
}

/// Rounding of queries, keys, weights and results to the element type.
inline double allowed_error(Element element) { return element == Element::kBFloat16 ? 6e-3 : 8e-4; }

inline void expect_close(const std::vector<float>& actual, const std::vector<double>& expected, Element element,
                         double factor, const char* what) {
  EXPECT_TRUE(all_close(actual, expected, tolerance_of(element).times(factor))) << what;
  EXPECT_LE(relative_error(actual, expected), allowed_error(element)) << what;
}

/// Forward and backward of a case against fp64.
inline void expect_agreement_with_reference(const Case& c) {
  const AttentionProblem problem = make_problem(c);
  const AttentionSolution expected = solve(problem);
  TestDevice device({.host_threads = 2});
  const AttentionRun run = run_attention(device, problem, c.packed);
  expect_close(run.out, expected.out, problem.element, 1, "out");
  for (size_t i = 0; i < expected.log_sum_exp.size(); ++i) {
    if (std::isinf(expected.log_sum_exp[i])) {
      EXPECT_EQ(run.log_sum_exp[i], -INFINITY) << i;
    } else {
      EXPECT_NEAR(run.log_sum_exp[i], expected.log_sum_exp[i], problem.element == Element::kBFloat16 ? 1e-2 : 2e-3);
    }
  }
  expect_close(run.query_gradient, expected.query_gradient, problem.element, 3, "query gradient");
  expect_close(run.key_gradient, expected.key_gradient, problem.element, 3, "key gradient");
  expect_close(run.value_gradient, expected.value_gradient, problem.element, 3, "value gradient");
}

}  // namespace gato::kernel_tests
