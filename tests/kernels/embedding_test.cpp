#include "gato/kernels/embedding.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "gato/core/error.h"
#include "gato/kernels/reference.h"
#include "kernels/gradient_check.h"

namespace gato::kernels {
namespace {

using namespace testing;

struct EmbedCase {
  int64_t places, patches, width;
};

EmbeddingInput make_input(const EmbedCase& c) {
  EmbeddingInput input;
  input.ids = random_integers({c.places}, -1, 7, 1, at::kInt);
  input.local_positions = random_integers({c.places}, -1, 5, 2, at::kInt);
  input.patch_index = std::get<0>(at::randperm(c.places, at::kLong).slice(0, 0, c.patches).sort());
  input.patch_rows = random_integers({c.patches}, -1, 4, 3, at::kInt);
  input.patch_columns = random_integers({c.patches}, 0, 4, 4, at::kInt);
  return input;
}

class EmbedTest : public ::testing::TestWithParam<EmbedCase> {};

TEST_P(EmbedTest, MatchesReferenceForwardAndBackward) {
  const EmbedCase c = GetParam();
  const EmbeddingInput input = make_input(c);
  const std::vector<at::Tensor> values{random_normal({7, c.width}, 5), random_normal({5, c.width}, 6),
                                       random_normal({4, c.width}, 7), random_normal({4, c.width}, 8)};
  const at::Tensor vectors = random_normal({c.patches, c.width}, 9), dy = random_normal({c.places, c.width}, 10);
  const EmbeddingTables tables{make_parameter(values[0]), make_parameter(values[1]), make_parameter(values[2]),
                               make_parameter(values[3])};
  const at::Tensor vectors1 = leaf(vectors), vectors2 = leaf(vectors.to(at::kDouble));
  std::vector<at::Tensor> plain;
  for (const at::Tensor& v : values) plain.push_back(leaf(v.to(at::kDouble)));
  const at::Tensor y1 = embed(input, tables, c.patches > 0 ? vectors1 : at::Tensor());
  const at::Tensor y2 = reference::embed(input, {plain[0], plain[1], plain[2], plain[3]}, vectors2);
  EXPECT_TRUE(all_close(y1, y2, tolerance_of(at::kFloat)));
  if (c.places == 0) return;
  backward_from(y1, dy);
  backward_from(y2, dy);
  // A table row sums over all places that use it.
  const Tolerance tolerance = tolerance_of(at::kFloat).times(1 + std::sqrt(static_cast<double>(c.places)));
  EXPECT_TRUE(all_close(tables.tokens.gradient, plain[0].grad(), tolerance));
  EXPECT_TRUE(all_close(tables.local_positions.gradient, plain[1].grad(), tolerance));
  if (c.patches == 0) return;
  EXPECT_TRUE(all_close(tables.patch_rows.gradient, plain[2].grad(), tolerance));
  EXPECT_TRUE(all_close(tables.patch_columns.gradient, plain[3].grad(), tolerance));
  EXPECT_TRUE(all_close(vectors1.grad(), vectors2.grad(), tolerance_of(at::kFloat)));
}

INSTANTIATE_TEST_SUITE_P(Sizes, EmbedTest,
                         ::testing::Values(EmbedCase{0, 0, 8}, EmbedCase{1, 0, 1}, EmbedCase{33, 5, 31},
                                           EmbedCase{541, 100, 33}, EmbedCase{31, 31, 128}),
                         [](const auto& test) {
                           return cat(test.param.places, "_patches", test.param.patches, "_width", test.param.width);
                         });

TEST(EmbedTest, SameBitsForAnyNumberOfThreads) {
  const EmbeddingInput input = make_input({2000, 300, 64});
  const int threads = at::get_num_threads();
  std::vector<at::Tensor> results;
  for (const int n : {1, 2}) {
    at::set_num_threads(n);
    const EmbeddingTables tables{make_parameter(at::zeros({7, 64})), make_parameter(at::zeros({5, 64})),
                                 make_parameter(at::zeros({4, 64})), make_parameter(at::zeros({4, 64}))};
    backward_from(embed(input, tables, random_normal({300, 64}, 1)), random_normal({2000, 64}, 2));
    results.push_back(at::cat({tables.tokens.gradient, tables.local_positions.gradient, tables.patch_rows.gradient}));
  }
  at::set_num_threads(threads);
  EXPECT_TRUE(same_bits(results[0], results[1]));
}

TEST(EmbedTest, RefusesIndicesOutsideTheTables) {
  const EmbeddingTables tables{make_parameter(at::zeros({7, 4})), make_parameter(at::zeros({5, 4})),
                               make_parameter(at::zeros({4, 4})), make_parameter(at::zeros({4, 4}))};
  const at::Tensor vectors = at::zeros({3, 4});
  const auto refused = [&](const char* what, auto change) {
    EmbeddingInput input = make_input({10, 3, 4});
    change(input);
    try {
      (void)embed(input, tables, vectors);
      ADD_FAILURE() << what << " was accepted";
    } catch (const ContractError& error) {
      EXPECT_NE(std::string(error.what()).find(what), std::string::npos) << error.what();
    }
  };
  refused("ids[4] is 7", [](EmbeddingInput& i) { i.ids[4] = 7; });
  refused("ids[2] is -2", [](EmbeddingInput& i) { i.ids[2] = -2; });
  refused("local_positions[9] is 5", [](EmbeddingInput& i) { i.local_positions[9] = 5; });
  refused("patch_rows[1] is 4", [](EmbeddingInput& i) { i.patch_rows[1] = 4; });
  refused("patch_columns[2] is 99", [](EmbeddingInput& i) { i.patch_columns[2] = 99; });
  refused("patch_index[2] is 10", [](EmbeddingInput& i) { i.patch_index[2] = 10; });
  refused("patch_index[1] is 0", [](EmbeddingInput& i) {
    i.patch_index[0] = 1;
    i.patch_index[1] = 0;
  });
  refused("local_positions must have sizes",
          [](EmbeddingInput& i) { i.local_positions = i.local_positions.slice(0, 1); });
  refused("patch_rows must have sizes", [](EmbeddingInput& i) { i.patch_rows = i.patch_rows.slice(0, 1); });
}

}  // namespace
}  // namespace gato::kernels
