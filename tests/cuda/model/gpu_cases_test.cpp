// What tools/bench/gpu measures runs on emulated kernels without a fault: its times mean nothing here, but that its
// calls are right is known before anybody runs them on a GPU.
#include "gpu_cases.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "cuda/model/emulated_ops.h"
#include "gato/core/error.h"

namespace gato::bench {
namespace {

using kernels::AttentionRoute;
using kernels::testing::EmulatedGpu;

constexpr Timing kOnce{.seconds_per_sample = 0, .samples = 1};

TEST(GpuCasesTest, StartsCutRowsIntoDocuments) {
  const AttentionCase sizes{.rows = 8, .tokens = 1024, .heads = 1, .head_dim = 32, .mean_document = 100};
  const at::Tensor starts = make_sequence_starts(sizes);
  int64_t documents = 0;
  for (int64_t row = 0; row < sizes.rows; ++row) {
    const auto* start = starts.const_data_ptr<int32_t>() + row * sizes.tokens;
    for (int64_t t = 0; t < sizes.tokens; ++t) {
      ASSERT_TRUE(start[t] == t || (t > 0 && start[t] == start[t - 1])) << "row " << row << ", token " << t;
      documents += start[t] == t ? 1 : 0;
    }
  }
  EXPECT_NEAR(static_cast<double>(sizes.rows * sizes.tokens) / static_cast<double>(documents), 100, 20);
  EXPECT_TRUE(starts.equal(make_sequence_starts(sizes)));
}

TEST(GpuCasesTest, PairsAreWhatTokensSee) {
  EXPECT_EQ(visible_pairs(make_sequence_starts({.rows = 2, .tokens = 1024})), 2 * 1024 * 1025 / 2);
  EXPECT_EQ(visible_pairs(at::tensor({0, 0, 0, 3, 3}, at::kInt).view({1, 5})), 6 + 3);
}

TEST(GpuCasesTest, SizesThatMakeNoSenseAreRefused) {
  EXPECT_THROW(static_cast<void>(make_sequence_starts({.rows = 0, .tokens = 5})), ConfigError);
  EXPECT_THROW(static_cast<void>(make_sequence_starts({.rows = 1, .tokens = 5, .mean_document = -1})), ConfigError);
  EXPECT_THROW(
      static_cast<void>(measure_attention({.rows = 1, .tokens = 8, .heads = 0, .head_dim = 32}, at::kCPU, kOnce)),
      ConfigError);
  EXPECT_THROW(static_cast<void>(measure_head(8, 8, 8, 0, at::kCPU, kOnce)), ConfigError);
  EXPECT_THROW(static_cast<void>(measure_streaming({.tokens = 4}, at::kCPU, kOnce)), ConfigError);
}

TEST(GpuCasesTest, AttentionIsMeasuredByEveryRoute) {
  EmulatedGpu gpu;
  const AttentionCase sizes{.rows = 2, .tokens = 70, .heads = 2, .head_dim = 32, .mean_document = 20};
  const std::vector<AttentionFigure> figures = measure_attention(sizes, at::kCPU, kOnce);
  ASSERT_EQ(figures.size(), 2u);  // on the CPU neither flash attention nor cuDNN are candidates
  EXPECT_EQ(figures[0].route, AttentionRoute::kOwn);
  EXPECT_EQ(figures[1].route, AttentionRoute::kReference);
  for (const AttentionFigure& figure : figures) {
    EXPECT_EQ(figure.problem, "");
    EXPECT_GT(figure.forward_seconds, 0);
    EXPECT_GT(figure.backward_seconds, 0);
  }
  EXPECT_GT(gpu.device().num_launches("attention_keys_backward"), 0u);
}

TEST(GpuCasesTest, StreamingKernelsAreMeasuredBesideACopy) {
  EmulatedGpu gpu;
  const StreamingCase sizes{.tokens = 40,
                            .width = 64,
                            .hidden = 96,
                            .vocabulary = 101,
                            .loss_positions = 9,
                            .parameters = 5000,
                            .copy_bytes = 4096};
  const std::vector<StreamingFigure> figures = measure_streaming(sizes, at::kCPU, kOnce);
  ASSERT_FALSE(figures.empty());
  EXPECT_EQ(figures[0].name, "copy");
  EXPECT_EQ(figures[0].bytes, 8192);
  for (const StreamingFigure& figure : figures) {
    EXPECT_GT(figure.bytes, 0) << figure.name;
    EXPECT_GT(figure.seconds, 0) << figure.name;
  }
  for (const char* kernel : {"layer_norm_forward", "layer_norm_backward", "geglu_forward", "geglu_backward",
                             "cross_entropy", "sum_runs", "column_sums", "square_sum", "adamw"}) {
    EXPECT_GT(gpu.device().num_launches(kernel), 0u) << kernel;
  }
}

TEST(GpuCasesTest, DevicesWithoutOperationsOfTheirOwnAreRefused) {
  const StreamingCase sizes{
      .tokens = 4, .width = 8, .hidden = 8, .vocabulary = 8, .loss_positions = 2, .parameters = 16, .copy_bytes = 64};
  EXPECT_THROW(static_cast<void>(measure_streaming(sizes, at::kCPU, kOnce)), ContractError);
}

TEST(GpuCasesTest, HeadIsMeasuredAtAShareOfThePositions) {
  EmulatedGpu gpu;
  EXPECT_GT(measure_head(32, 16, 50, 0.25, at::kCPU, kOnce), 0);
  EXPECT_GT(gpu.device().num_launches("cross_entropy"), 0u);
}

}  // namespace
}  // namespace gato::bench
