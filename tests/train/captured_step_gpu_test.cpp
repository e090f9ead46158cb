// Steps in CUDA graphs beside the same steps without, on a GPU.
#include "gato/kernels/attention_route.h"
#include "support/gpu.h"
#include "train/step_numbers.h"

namespace gato::train {
namespace {

using testing::expect_near;
using testing::graph_config;
using testing::step_numbers;

class CapturedStepGpuTest : public gato::testing::GpuTest {
 protected:
  void TearDown() override { kernels::set_attention_route(kernels::AttentionRoute::kAuto); }

  /// Enough steps that graphs are replayed.
  void expect_same_steps(TrainingConfig config, double tolerance) {
    const auto plan = data::test::shared_data().plan(config.data);
    const std::vector<double> captured = step_numbers(config, plan, device(), 6);
    config.train.cuda_graph = false;
    expect_near(captured, step_numbers(config, plan, device(), 6), tolerance);
  }
};

TEST_F(CapturedStepGpuTest, Bf16IsTheSameByEveryRouteThatCanBeCaptured) {
  for (const auto route :
       {kernels::AttentionRoute::kOwn, kernels::AttentionRoute::kFlash, kernels::AttentionRoute::kReference}) {
    SCOPED_TRACE(kernels::route_name(route));
    kernels::set_attention_route(route);
    expect_same_steps(graph_config(model::Precision::kBf16), 3e-2);
  }
}

TEST_F(CapturedStepGpuTest, Fp32IsTheSame) { expect_same_steps(graph_config(model::Precision::kFp32), 1e-3); }

TEST_F(CapturedStepGpuTest, RecomputationIsTheSame) {
  TrainingConfig config = graph_config(model::Precision::kFp32);
  config.train.recompute = true;
  expect_same_steps(config, 1e-3);
}

}  // namespace
}  // namespace gato::train
