// Tokens chosen on the device, kernels run by the emulator, beside the CPU's choice.
#include "gato/model/token_loop.h"

#include <gtest/gtest.h>

#include "cuda/model/emulated_ops.h"
#include "gato/core/error.h"
#include "gato/kernels/attention_route.h"
#include "gato/kernels/choose_tokens.h"
#include "gato/kernels/rows.h"
#include "model/loop_run.h"

namespace gato::model {
namespace {

using namespace testing;
using kernels::AttentionRoute;
using kernels::TokenChoice;
using kernels::WeightType;
using kernels::testing::EmulatedGpu;

class EmulatedLoopTest : public ::testing::Test {
 protected:
  void TearDown() override { kernels::set_attention_route(AttentionRoute::kAuto); }
};

const ActingCase kWide{PositionEncoding::kRotary, Precision::kFp32, WeightType::kFp32, {}};

TEST_F(EmulatedLoopTest, ChoosesWhatTheCpuChoosesFromTheSameLogits) {
  EmulatedGpu gpu;
  const Lived expected = live({}, LoopWay::kStepByStep), actual = live({}, LoopWay::kLoop);
  EXPECT_EQ(actual.chosen, expected.chosen);
  EXPECT_EQ(actual.hidden, expected.hidden);
  EXPECT_GT(gpu.device().num_launches("sample_ids"), 0u);
  EXPECT_GT(gpu.device().num_launches("feed_back"), 0u);
  EXPECT_GT(gpu.device().num_launches("cached_attention_split"), 0u);
}

TEST_F(EmulatedLoopTest, PlainOperationsFollowToo) {
  for (const PositionEncoding position :
       {PositionEncoding::kRotary, PositionEncoding::kNone, PositionEncoding::kRelative}) {
    ActingCase of = kWide;
    of.position = position;
    const Lived expected = live(of, LoopWay::kStepByStep);  // on the CPU
    EmulatedGpu gpu;
    const Lived actual = live(of, LoopWay::kLoop);
    EXPECT_EQ(actual.chosen, expected.chosen) << position_name(position);
    EXPECT_LT(largest_difference(actual.hidden, expected.hidden), kWideDifference) << position_name(position);
    EXPECT_EQ(gpu.device().num_launches("cached_attention_split"), 0u);
  }
}

TEST_F(EmulatedLoopTest, GraphsGiveTheSameBits) {
  for (const AttentionRoute route : {AttentionRoute::kAuto, AttentionRoute::kReference}) {
    kernels::set_attention_route(route);
    const EmulatedGpu gpu;
    const Lived expected = live({}, LoopWay::kLoop), actual = live({}, LoopWay::kGraphs);
    EXPECT_EQ(actual.chosen, expected.chosen);
    EXPECT_EQ(actual.hidden, expected.hidden);
    EXPECT_EQ(expected.graphs, 0u);
    EXPECT_GT(actual.graphs, 4u);
    EXPECT_LE(actual.graphs, 20u);
  }
}

TEST_F(EmulatedLoopTest, RowsThatOnlyFillUpLeaveOtherSlotsAlone) {
  // 5 slots, 3 of which act, as 4 rows.
  const auto probes = [](bool with_loop) {
    const Model model(gpu_config(Precision::kBf16), loop_shape(), 7, Model::Purpose::kInference);
    Decoder decoder(model, 5, 40);
    TokenLoop loop(decoder, with_loop);
    const Tokens t = without_patches(make_tokens(20, 4));
    const std::vector<int64_t> all{0, 1, 2, 3, 4}, acting{4, 1, 3}, others{0, 2};
    (void)decoder.append(all, std::vector<DecoderInput>(5, t.part(0, 9)));
    const at::Tensor hidden = decoder.append(acting, std::vector<DecoderInput>(3, t.part(9, 10)));
    if (with_loop) {
      const auto chosen = loop.choose(acting, hidden, mixed_choices(5, 3, 8));
      EXPECT_EQ(chosen.size(), 3u);
      for (const auto& of_slot : chosen) EXPECT_EQ(of_slot.size(), 5u);
    }
    EXPECT_EQ(decoder.length(0), 9);
    EXPECT_EQ(decoder.length(1), with_loop ? 14 : 10);
    Outputs outputs;
    keep_outputs(decoder, decoder.append(others, std::vector<DecoderInput>(2, t.part(9, 10))), outputs);
    return outputs;
  };
  for (const AttentionRoute route : {AttentionRoute::kAuto, AttentionRoute::kReference}) {
    kernels::set_attention_route(route);
    const EmulatedGpu gpu;
    EXPECT_EQ(probes(true), probes(false));
  }
}

TEST_F(EmulatedLoopTest, OldGraphsGoAndComeBack) {
  const EmulatedGpu gpu;
  const Model model(gpu_config(Precision::kBf16), loop_shape(), 7, Model::Purpose::kInference);
  Decoder decoder(model, 1, 80);
  TokenLoop loop(decoder, true);
  const Tokens t = without_patches(make_tokens(3, 4));
  const std::vector<int64_t> slot{0};
  const auto ids = [&](int32_t range) {
    decoder.reset(0);
    const at::Tensor hidden = decoder.append(slot, std::vector<DecoderInput>{t.part(0, 3)});
    return loop.choose(slot, hidden, std::vector<TokenChoice>(3, {0, range}))[0];
  };
  const std::vector<int32_t> first = ids(10);
  for (int32_t range = 11; range < 12 + static_cast<int32_t>(TokenLoop::kMostGraphs); ++range) (void)ids(range);
  EXPECT_EQ(loop.num_graphs(), TokenLoop::kMostGraphs);
  EXPECT_EQ(ids(10), first);
  EXPECT_EQ(loop.num_graphs(), TokenLoop::kMostGraphs);
}

/// Cannot capture anything.
class WithoutCapture final : public kernels::testing::EmulatedOps {
 public:
  [[nodiscard]] std::unique_ptr<kernels::CapturedWork> capture(at::Device, std::function<void()>,
                                                               const kernels::CapturedWork*) const override {
    throw DeviceError("no graph today");
  }
};

TEST_F(EmulatedLoopTest, AFailedRecordingSaysWhatToLeaveOut) {
  const EmulatedGpu gpu;
  const WithoutCapture ops;
  const kernels::ScopedDeviceOps on(at::kCPU, ops);
  const Model model(gpu_config(Precision::kBf16), loop_shape(), 7, Model::Purpose::kInference);
  Decoder decoder(model, 1, 8);
  TokenLoop loop(decoder, true);
  const Tokens t = without_patches(make_tokens(3, 4));
  const std::vector<int64_t> slot{0};
  const at::Tensor hidden = decoder.append(slot, std::vector<DecoderInput>{t.part(0, 3)});
  try {
    (void)loop.choose(slot, hidden, std::vector<TokenChoice>(2, {0, 10}));
    FAIL() << "a graph was recorded";
  } catch (const DeviceError& error) {
    EXPECT_NE(std::string(error.what()).find("no graph today"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("--cuda-graph"), std::string::npos) << error.what();
  }
  EXPECT_EQ(decoder.length(0), 3);
}

kernels::ChoiceState empty_state(int64_t rounds, int64_t n) {
  return {at::zeros({rounds * n * static_cast<int64_t>(sizeof(TokenChoice))}, at::kByte),
          at::zeros({n}, at::kInt),
          at::zeros({n, 4}, at::kInt),
          at::zeros({n}, at::kInt),
          at::zeros({n}, at::kInt),
          at::zeros({rounds, n}, at::kInt)};
}

TEST_F(EmulatedLoopTest, StatesThatDoNotFitAreRefused) {
  EXPECT_THROW(kernels::choose_tokens(at::zeros({2, 5}), 0, empty_state(3, 2)), ContractError);  // on a CPU
  const EmulatedGpu gpu;
  const at::Tensor logits = at::zeros({2, 5});
  EXPECT_NO_THROW(kernels::choose_tokens(logits, 0, empty_state(3, 2)));
  const auto refused = [&](auto change) {
    kernels::ChoiceState state = empty_state(3, 2);
    change(state);
    EXPECT_THROW(kernels::choose_tokens(logits, 0, state), ContractError);
  };
  refused([](auto& s) { s = empty_state(3, 1); });
  refused([](auto& s) { s.choices = s.choices.narrow(0, 0, 47); });
  refused([](auto& s) { s.round = s.round.to(at::kLong); });
  refused([](auto& s) { s.runs = s.runs.narrow(1, 0, 3); });
  refused([](auto& s) { s.ids = s.ids.narrow(0, 0, 1); });
  refused([](auto& s) { s.local_positions = at::zeros({3}, at::kInt); });
}

TEST_F(EmulatedLoopTest, TablesOfACacheThatDoNotFitAreRefused) {
  const at::Tensor qkv = random_normal({1, 3, 2, 32}, 1), table = at::zeros({1, 4}, at::kInt);
  EXPECT_THROW(  // on a CPU
      (void)kernels::cached_attention_of_table(qkv, table, 8, kernels::make_attention_cache(1, 8, 2, 32), {}, nullptr),
      ContractError);
  const EmulatedGpu gpu;
  const kernels::AttentionCache cache = kernels::make_attention_cache(1, 8, 2, 32);
  EXPECT_NO_THROW((void)kernels::cached_attention_of_table(qkv, table, 8, cache, {}, nullptr));
  for (const int64_t context : {0, 9}) {
    EXPECT_THROW((void)kernels::cached_attention_of_table(qkv, table, context, cache, {}, nullptr), ContractError);
  }
  EXPECT_THROW((void)kernels::cached_attention_of_table(qkv, table.to(at::kLong), 8, cache, {}, nullptr),
               ContractError);
  EXPECT_THROW((void)kernels::cached_attention_of_table(qkv, at::zeros({2, 4}, at::kInt), 8, cache, {}, nullptr),
               ContractError);
}

TEST_F(EmulatedLoopTest, RowsAreGatheredAndSpreadAsOnTheCpu) {
  const at::Tensor positions = at::tensor({1, 2, 6}, at::kLong);
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    const at::Tensor x = random_normal({7, 33}, 1).to(type);
    const at::Tensor some = kernels::gather_rows(x, positions), spread = kernels::spread_rows(some, positions, 7);
    EmulatedGpu gpu;
    EXPECT_TRUE(same_bits(kernels::gather_rows(x.clone(), positions.clone()), some));
    EXPECT_TRUE(same_bits(kernels::spread_rows(some.clone(), positions.clone(), 7), spread));
    EXPECT_EQ(gpu.device().num_launches("gather_rows"), 1u);
    EXPECT_EQ(gpu.device().num_launches("scatter_rows"), 1u);
  }
}

}  // namespace
}  // namespace gato::model
