// Acting on the CUDA half's operations, kernels run by the emulator, beside the CPU's Decoder.
#include "gato/model/decoder.h"

#include <gtest/gtest.h>

#include "cuda/model/emulated_ops.h"
#include "gato/core/error.h"
#include "gato/kernels/attention_route.h"
#include "model/acting_run.h"

namespace gato::model {
namespace {

using namespace testing;
using kernels::AttentionRoute;
using kernels::WeightType;
using kernels::testing::EmulatedGpu;

class EmulatedDecoderTest : public ::testing::Test {
 protected:
  void TearDown() override { kernels::set_attention_route(AttentionRoute::kAuto); }
};

/// `by_own_kernels`: whether those of the cache must have run.
void expect_as_on_the_cpu(const ActingCase& of, double tolerance, bool by_own_kernels = false) {
  const Outputs expected = act(of);
  EmulatedGpu gpu;
  const Outputs actual = act(of);
  ASSERT_EQ(actual.size(), expected.size());
  EXPECT_LT(largest_difference(actual, expected), tolerance);
  for (const char* kernel : {"cached_attention_split", "cached_attention_combine", "cached_attention_prefill"}) {
    EXPECT_EQ(gpu.device().num_launches(kernel) > 0, by_own_kernels) << kernel;
  }
}

TEST_F(EmulatedDecoderTest, Bf16FollowsTheCpuByOwnKernels) { expect_as_on_the_cpu({}, kNarrowDifference, true); }

TEST_F(EmulatedDecoderTest, Bf16FollowsTheCpuByPlainOperations) {
  kernels::set_attention_route(AttentionRoute::kReference);
  expect_as_on_the_cpu({}, kNarrowDifference);
}

TEST_F(EmulatedDecoderTest, Fp32FollowsTheCpu) {
  for (const PositionEncoding position :
       {PositionEncoding::kRotary, PositionEncoding::kNone, PositionEncoding::kRelative}) {
    expect_as_on_the_cpu({position, Precision::kFp32, WeightType::kFp32, {}}, kWideDifference);
  }
}

TEST_F(EmulatedDecoderTest, OtherWeightsThanThoseOfTraining) {
  expect_as_on_the_cpu({PositionEncoding::kNone, Precision::kFp32, WeightType::kBf16, {}}, kNarrowDifference, true);
  expect_as_on_the_cpu({PositionEncoding::kRotary, Precision::kBf16, WeightType::kFp32, {}}, kWideDifference);
}

TEST_F(EmulatedDecoderTest, ABf16CacheOrAWiderOneWithRelativePositions) {
  expect_as_on_the_cpu({PositionEncoding::kRelative, Precision::kBf16, WeightType::kBf16, {}}, kNarrowDifference);
  expect_as_on_the_cpu({PositionEncoding::kRelative, Precision::kBf16, WeightType::kBf16, at::kFloat},
                       kNarrowDifference);
}

TEST_F(EmulatedDecoderTest, WeightsAreTheModelsOwnMemoryWhereItHasThem) {
  const EmulatedGpu gpu;
  const Model narrow(gpu_config(Precision::kBf16), small_shape(), 7, Model::Purpose::kInference);
  const Model wide(gpu_config(Precision::kFp32), small_shape(), 7, Model::Purpose::kInference);
  EXPECT_EQ(ActingWeights(narrow, WeightType::kBf16).bytes(), 0);
  EXPECT_EQ(ActingWeights(narrow, WeightType::kFp32).bytes(), 0);
  EXPECT_EQ(ActingWeights(wide, WeightType::kFp32).bytes(), 0);
  EXPECT_GT(ActingWeights(wide, WeightType::kBf16).bytes(), 0);
}

TEST_F(EmulatedDecoderTest, Int8IsRefusedNamingTheAlternatives) {
  const EmulatedGpu gpu;
  const Model model(gpu_config(Precision::kBf16), small_shape(), 7, Model::Purpose::kInference);
  try {
    const ActingWeights weights(model, WeightType::kInt8);
    FAIL() << "int8 was taken";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("--weights bf16"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("--device cpu"), std::string::npos) << error.what();
  }
}

TEST_F(EmulatedDecoderTest, RefusedCallsChangeNothing) {
  const EmulatedGpu gpu;
  const Model model(gpu_config(Precision::kBf16), small_shape(), 7, Model::Purpose::kInference);
  Decoder decoder(model, 2, 8);
  const Tokens t = make_tokens(9, 4);
  const std::vector<int64_t> slot{0};
  const auto refused = [&](const DecoderInput& input) {
    EXPECT_THROW((void)decoder.append(slot, std::vector<DecoderInput>{input}), ContractError);
  };
  (void)decoder.append(slot, std::vector<DecoderInput>{t.part(0, 3)});
  refused(t.part(3, 9));  // 9 tokens
  const std::vector<int32_t> ids{5}, beyond{90}, below{-2}, patch{-1};
  const std::vector<int16_t> none{-1}, far{513}, negative{-2};
  const std::vector<uint8_t> pixels(768), row{0}, last{128};
  refused({beyond, none, {}, {}, {}});
  refused({below, none, pixels, row, row});
  refused({ids, far, {}, {}, {}});
  refused({ids, negative, {}, {}, {}});
  refused({patch, none, pixels, last, row});
  refused({patch, none, pixels, row, last});
  EXPECT_EQ(decoder.length(0), 3);
  EXPECT_THROW(Decoder(std::make_shared<const ActingWeights>(model, WeightType::kFp32), 1, 8, at::kBFloat16),
               ContractError);
}

TEST_F(EmulatedDecoderTest, ACacheOfAnotherDeviceIsRefused) {
  const kernels::AttentionCache of_cpu = kernels::make_attention_cache(1, 8, 2, 32);
  const EmulatedGpu gpu;
  const kernels::CacheRun run{0, 0, 1};
  const at::Tensor qkv = random_normal({1, 3, 2, 32}, 1);
  EXPECT_THROW((void)kernels::cached_attention(qkv, {&run, 1}, of_cpu), ContractError);
  const at::Tensor wrong_table = at::zeros({2, 4}, at::kInt);
  EXPECT_THROW(
      (void)kernels::cached_attention(qkv, {&run, 1}, kernels::make_attention_cache(1, 8, 2, 32), {}, wrong_table),
      ContractError);
}

}  // namespace
}  // namespace gato::model
