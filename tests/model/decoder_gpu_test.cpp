// Acting on a GPU beside the CPU.
#include "gato/kernels/attention_route.h"
#include "model/acting_run.h"
#include "support/gpu.h"

namespace gato::model {
namespace {

using namespace testing;
using kernels::AttentionRoute;
using kernels::WeightType;

constexpr double kTf32Difference = 1e-2;  // cuDNN rounds the convolutions of patches to TF32

class DecoderGpuTest : public gato::testing::GpuTest {
 protected:
  void TearDown() override { kernels::set_attention_route(AttentionRoute::kAuto); }
};

TEST_F(DecoderGpuTest, FollowsTheCpu) {
  for (const AttentionRoute route : {AttentionRoute::kOwn, AttentionRoute::kReference}) {
    kernels::set_attention_route(route);
    for (const PositionEncoding position :
         {PositionEncoding::kRotary, PositionEncoding::kNone, PositionEncoding::kRelative}) {
      const ActingCase narrow{position, Precision::kBf16, WeightType::kBf16, {}};
      EXPECT_LT(largest_difference(act(narrow, device()), act(narrow)), kNarrowDifference)
          << kernels::route_name(route) << ", " << position_name(position);
      const ActingCase wide{position, Precision::kFp32, WeightType::kFp32, {}};
      EXPECT_LT(largest_difference(act(wide, device()), act(wide)), kTf32Difference)
          << kernels::route_name(route) << ", " << position_name(position);
    }
  }
}

TEST_F(DecoderGpuTest, GivesTheSameBitsAgain) {
  kernels::set_attention_route(AttentionRoute::kOwn);
  EXPECT_EQ(act({}, device()), act({}, device()));
}

}  // namespace
}  // namespace gato::model
