// The attention kernels against fp64, under emulation: cases in which every pair of parameter values occurs
// (attention_slow_test.cpp has their whole product), gradients, skipped tiles, orders of blocks, wrong calls.
#include "cuda/attention_cases.h"
#include "gato/core/error.h"

namespace gato::kernel_tests {
namespace {

using kernels::cuda::attention_backward;
using kernels::cuda::attention_forward;
using kernels::cuda::AttentionBackward;
using kernels::cuda::AttentionForward;

std::vector<Case> pairwise_cases() {
  std::vector<Case> cases = cases_of(pairwise_choices());
  cases.push_back({32, Element::kBFloat16, 70, Documents::kMany, true, true, 3, 1});  // rows do not mix
  return cases;
}

class AttentionTest : public testing::TestWithParam<Case> {};

TEST_P(AttentionTest, AgreesWithReference) { expect_agreement_with_reference(GetParam()); }

INSTANTIATE_TEST_SUITE_P(PairwiseCases, AttentionTest, testing::ValuesIn(pairwise_cases()), name_of);

class AttentionHeadDimTest : public testing::TestWithParam<int64_t> {
 protected:
  [[nodiscard]] AttentionProblem problem(int64_t tokens, Documents documents, bool rotary = true) const {
    return make_problem({GetParam(), Element::kBFloat16, tokens, documents, rotary, true});
  }
};

INSTANTIATE_TEST_SUITE_P(HeadDims, AttentionHeadDimTest, testing::ValuesIn(kHeadDims),
                         [](const auto& instance) { return cat("d", instance.param); });

TEST_P(AttentionHeadDimTest, GivesSameBitsInAnyOrderOfBlocks) {
  const AttentionProblem problem = this->problem(150, Documents::kMany);
  expect_same_bits_in_any_order([&](TestDevice& device) {
    const AttentionRun run = run_attention(device, problem);
    return std::vector<std::vector<float>>{run.out, run.log_sum_exp, run.query_gradient, run.key_gradient,
                                           run.value_gradient};
  });
}

double inner_product(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

// The result is linear in the values: <dO, O> = <dV, V>, whatever the weights are.
TEST_P(AttentionHeadDimTest, ValueGradientIsAdjointOfForward) {
  const AttentionProblem problem = this->problem(150, Documents::kMany);
  TestDevice device;
  const AttentionRun run = run_attention(device, problem);
  const double forward = inner_product(problem.out_gradient, run.out);
  const double backward = inner_product(problem.value, run.value_gradient);
  const double size =
      std::sqrt(inner_product(run.out, run.out) * inner_product(problem.out_gradient, problem.out_gradient));
  EXPECT_NEAR(forward, backward, 2e-4 * size);
}

// d<dO, O(q + h x, k + h y, v + h z)> / dh, by differences of the fp64 reference's forward alone.
TEST_P(AttentionHeadDimTest, GradientsMatchFiniteDifferences) {
  AttentionProblem problem = this->problem(100, Documents::kMany);
  TestDevice device;
  const AttentionRun run = run_attention(device, problem);
  const std::vector<float> x = normal_values(problem.size(), 21);
  const std::vector<float> y = normal_values(problem.size(), 22);
  const std::vector<float> z = normal_values(problem.size(), 23);
  const auto loss_at = [&](float h) {
    AttentionProblem moved = problem;
    for (size_t i = 0; i < x.size(); ++i) {
      moved.query[i] += h * x[i];
      moved.key[i] += h * y[i];
      moved.value[i] += h * z[i];
    }
    const AttentionSolution solution = solve(moved, false);
    double loss = 0;
    for (size_t i = 0; i < solution.out.size(); ++i) loss += solution.out[i] * problem.out_gradient[i];
    return loss;
  };
  const float h = 0x1p-8f;
  const double expected = (loss_at(h) - loss_at(-h)) / (2 * static_cast<double>(h));
  const double actual =
      inner_product(run.query_gradient, x) + inner_product(run.key_gradient, y) + inner_product(run.value_gradient, z);
  const double size = std::sqrt(inner_product(run.query_gradient, run.query_gradient) +
                                inner_product(run.key_gradient, run.key_gradient) +
                                inner_product(run.value_gradient, run.value_gradient));
  EXPECT_NEAR(actual, expected, 0.01 * size);  // x, y, z have random signs: the sum's size is that of the gradients
}

/// Tiles as docs/attention_kernels.md gives them: rows of a warp, columns of a tile.
struct WarpTile {
  int64_t rows, columns;
};
WarpTile forward_tile(int64_t head_dim) { return {32, head_dim == 128 ? 32 : 64}; }
WarpTile keys_tile(int64_t head_dim) { return {head_dim == 128 ? 16 : 32, 32}; }
WarpTile queries_tile(int64_t head_dim) { return {head_dim == 128 ? 16 : 32, head_dim == 32 ? 64 : 32}; }

/// mma instructions of `products` matrix products over those tiles of a warp in which some query sees some key.
uint64_t expected_mma(const AttentionProblem& problem, WarpTile tile, bool rows_are_keys, int64_t products) {
  uint64_t tiles = 0;
  for (int64_t row = 0; row < problem.tokens; row += tile.rows) {
    for (int64_t column = 0; column < problem.tokens; column += tile.columns) {
      bool seen = false;
      for (int64_t i = row; i < std::min(row + tile.rows, problem.tokens); ++i) {
        for (int64_t j = column; j < std::min(column + tile.columns, problem.tokens); ++j) {
          const int64_t query = rows_are_keys ? j : i;
          const int64_t key = rows_are_keys ? i : j;
          seen = seen || (key <= query && key >= problem.start(0, query));
        }
      }
      tiles += seen;
    }
  }
  const int64_t per_tile = products * (tile.rows / 16) * (tile.columns / 8) * (problem.head_dim / 16);
  return tiles * static_cast<uint64_t>(per_tile * problem.heads);
}

TEST_P(AttentionHeadDimTest, MultipliesOnlyTilesInsideTheMask) {
  for (const Documents documents : {Documents::kOne, Documents::kMany, Documents::kEachToken}) {
    const AttentionProblem problem = this->problem(300, documents);
    TestDevice device;
    run_attention(device, problem);
    EXPECT_EQ(device.counters("attention_forward").mma, expected_mma(problem, forward_tile(GetParam()), false, 2));
    EXPECT_EQ(device.counters("attention_keys_backward").mma, expected_mma(problem, keys_tile(GetParam()), true, 4));
    EXPECT_EQ(device.counters("attention_queries_backward").mma,
              expected_mma(problem, queries_tile(GetParam()), false, 3));
  }
}

TEST_P(AttentionHeadDimTest, ReadsOnlyTilesInsideTheMask) {
  const auto bytes_read = [&](Documents documents) {
    const AttentionProblem problem = this->problem(512, documents, false);
    TestDevice device;
    const DeviceAttention attention(device, problem, true);
    attention_forward(attention.forward_call(), nullptr);
    return static_cast<double>(device.counters("attention_forward").global_bytes_read);
  };
  const double tensor = 2.0 * 512 * 2 * static_cast<double>(GetParam());
  // Queries once; keys and values by four tiles of queries: 1/4, 2/4, 3/4, 4/4 of them, or each tile its own quarter.
  const double starts = 12 * 4.0 * 512 * 2;  // every warp looks at those of its tile
  EXPECT_GE(bytes_read(Documents::kOne), 6 * tensor);
  EXPECT_LT(bytes_read(Documents::kOne), 6 * tensor + starts);
  EXPECT_GE(bytes_read(Documents::kEachToken), 3 * tensor);
  EXPECT_LT(bytes_read(Documents::kEachToken), 3 * tensor + starts);
}

TEST_P(AttentionHeadDimTest, HasNoBankConflicts) {
  const AttentionProblem problem = this->problem(192, Documents::kOne);
  TestDevice device;
  run_attention(device, problem);
  for (const char* kernel : {"attention_forward", "attention_keys_backward", "attention_queries_backward"}) {
    EXPECT_EQ(device.counters(kernel).conflict_factor(), 1.0) << kernel << "\n" << device.describe_sites();
  }
}

TEST_P(AttentionHeadDimTest, AnyStartsStayInsideTheBuffers) {
  AttentionProblem problem = this->problem(100, Documents::kOne);
  Rng rng(5);
  for (int32_t& start : problem.starts) start = static_cast<int32_t>(rng.below(140));
  const AttentionSolution expected = solve(problem);
  for (int32_t& start : problem.starts) start = start == 0 ? -1000000 : start > 110 ? 2147483647 : start;
  TestDevice device;
  const AttentionRun run = run_attention(device, problem);
  expect_close(run.out, expected.out, problem.element, 1, "out");
  expect_close(run.key_gradient, expected.key_gradient, problem.element, 3, "key gradient");
}

TEST_P(AttentionHeadDimTest, PositionsBehindTheRotaryTableStayInsideIt) {
  const AttentionProblem problem = this->problem(100, Documents::kOne);
  TestDevice device;
  const DeviceAttention attention(device, problem, true);
  AttentionForward forward = attention.forward_call();
  AttentionBackward backward = attention.backward_call();
  const auto cosine = device.input(
      "short cosine", std::vector<float>(problem.cosine.begin(), problem.cosine.begin() + 5 * GetParam() / 2));
  const auto sine =
      device.input("short sine", std::vector<float>(problem.sine.begin(), problem.sine.begin() + 5 * GetParam() / 2));
  forward.rotary = backward.rotary = {cosine.data(), sine.data(), 5};
  attention_forward(forward, nullptr);
  attention_backward(backward, nullptr);
  EXPECT_EQ(attention.download().out.size(), problem.query.size());
}

TEST(AttentionCallTest, NothingIsLaunchedForNoElements) {
  TestDevice device;
  for (const kernels::cuda::AttentionShape shape :
       {kernels::cuda::AttentionShape{0, 5, 2, 64}, kernels::cuda::AttentionShape{1, 0, 2, 64},
        kernels::cuda::AttentionShape{1, 5, 0, 64}}) {
    AttentionForward forward;
    forward.shape = shape;
    AttentionBackward backward;
    backward.shape = shape;
    attention_forward(forward, nullptr);
    attention_backward(backward, nullptr);
  }
  EXPECT_EQ(device.counters().blocks, 0u);
}

TEST(AttentionCallTest, WrongCallsAreRefused) {
  const AttentionProblem problem = make_problem({64, Element::kBFloat16, 33, Documents::kOne, true, true});
  TestDevice device;
  const DeviceAttention attention(device, problem, true);
  const auto refused = [&](auto spoil, const char* part) {
    AttentionForward forward = attention.forward_call();
    AttentionBackward backward = attention.backward_call();
    spoil(forward);
    spoil(backward);
    const auto expect_refusal = [&](auto call) {
      try {
        call();
        ADD_FAILURE() << "accepted: " << part;
      } catch (const ContractError& error) {
        EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
      }
    };
    expect_refusal([&] { attention_forward(forward, nullptr); });
    expect_refusal([&] { attention_backward(backward, nullptr); });
  };
  refused([](auto& call) { call.shape.element = Element::kFloat32; }, "float32");
  refused([](auto& call) { call.shape.head_dim = 48; }, "head dimension is 48");
  refused([](auto& call) { call.shape.tokens = -1; }, "-1 tokens");
  refused([](auto& call) { call.shape.rows = 70000; }, "70000 rows");
  refused([](auto& call) { call.query.data = nullptr; }, "query is null");
  refused([](auto& call) { call.key.data = static_cast<const char*>(call.key.data) + 2; },
          "key is not 16-byte aligned");
  refused([](auto& call) { call.value.token_stride += 4; }, "strides of value");
  refused([](auto& call) { call.value.token_stride = int64_t{1} << 30; }, "a row of value");
  refused([](auto& call) { call.sequence_start = nullptr; }, "sequence_start is null");
  refused([](auto& call) { call.rotary.sine = nullptr; }, "rotary.sine is null");
  refused([](auto& call) { call.rotary.positions = 0; }, "0 positions");
  EXPECT_EQ(device.counters().blocks, 0u);
}

}  // namespace
}  // namespace gato::kernel_tests
