// The whole product of what attention_test.cpp takes pairs of, and long rows.
#include "cuda/attention_cases.h"

namespace gato::kernel_tests {
namespace {

std::vector<Case> every_case() {
  std::vector<Case> cases = cases_of(every_choice());
  for (const int64_t head_dim : {32, 128}) {
    for (const int64_t tokens : {541, 1024}) {
      for (const Documents documents : {Documents::kOne, Documents::kMany}) {
        cases.push_back({head_dim, Element::kBFloat16, tokens, documents, true, true, 1, 1});
      }
    }
  }
  return cases;
}

class AttentionSlowTest : public testing::TestWithParam<Case> {};

TEST_P(AttentionSlowTest, AgreesWithReference) { expect_agreement_with_reference(GetParam()); }

INSTANTIATE_TEST_SUITE_P(EveryCase, AttentionSlowTest, testing::ValuesIn(every_case()), name_of);

}  // namespace
}  // namespace gato::kernel_tests
