// Tokens chosen on a GPU, with and without CUDA graphs, beside the CPU.
#include "gato/kernels/attention_route.h"
#include "model/loop_run.h"
#include "support/gpu.h"

namespace gato::model {
namespace {

using namespace testing;
using kernels::AttentionRoute;
using kernels::WeightType;

class TokenLoopGpuTest : public gato::testing::GpuTest {
 protected:
  void TearDown() override { kernels::set_attention_route(AttentionRoute::kAuto); }
};

TEST_F(TokenLoopGpuTest, Fp32ChoosesWhatTheCpuChooses) {
  for (const PositionEncoding position :
       {PositionEncoding::kRotary, PositionEncoding::kNone, PositionEncoding::kRelative}) {
    const ActingCase of{position, Precision::kFp32, WeightType::kFp32, {}};
    const Lived expected = live(of, LoopWay::kLoop), actual = live(of, LoopWay::kLoop, 3, device());
    EXPECT_EQ(actual.chosen, expected.chosen) << position_name(position);
    EXPECT_LT(largest_difference(actual.hidden, expected.hidden), 1e-4) << position_name(position);
  }
}

TEST_F(TokenLoopGpuTest, GraphsGiveTheSameBits) {
  for (const AttentionRoute route : {AttentionRoute::kOwn, AttentionRoute::kReference}) {
    kernels::set_attention_route(route);
    for (const int64_t slots : {3, 5}) {
      for (const PositionEncoding position : {PositionEncoding::kRotary, PositionEncoding::kRelative}) {
        const ActingCase of{position, Precision::kBf16, WeightType::kBf16, {}};
        const Lived expected = live(of, LoopWay::kLoop, slots, device());
        const Lived actual = live(of, LoopWay::kGraphs, slots, device());
        EXPECT_EQ(actual.chosen, expected.chosen) << kernels::route_name(route) << " " << position_name(position);
        EXPECT_EQ(actual.hidden, expected.hidden) << kernels::route_name(route) << " " << position_name(position);
        EXPECT_GT(actual.graphs, 4u);
      }
    }
  }
}

}  // namespace
}  // namespace gato::model
