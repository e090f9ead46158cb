#include "gato/model/token_loop.h"

#include <gtest/gtest.h>

#include "gato/core/error.h"
#include "model/loop_run.h"

namespace gato::model {
namespace {

using namespace testing;
using kernels::Choice;
using kernels::TokenChoice;
using kernels::WeightType;

TEST(TokenLoopTest, ChoosesWhatStepByStepChooses) {
  for (const ActingCase& of :
       {ActingCase{}, ActingCase{PositionEncoding::kRelative, Precision::kFp32, WeightType::kFp32, {}},
        ActingCase{PositionEncoding::kNone, Precision::kBf16, WeightType::kInt8, {}}}) {
    const Lived expected = live(of, LoopWay::kStepByStep), actual = live(of, LoopWay::kLoop);
    EXPECT_EQ(actual.chosen, expected.chosen) << position_name(of.position);
    EXPECT_EQ(actual.hidden, expected.hidden) << position_name(of.position);
  }
}

TEST(TokenLoopTest, ALifeHasEveryKindOfToken) {
  const Lived lived = live({}, LoopWay::kLoop);
  size_t shortest = 100, low = 0, bins = 0;
  for (const std::vector<int32_t>& action : lived.chosen) {
    shortest = std::min(shortest, action.size());
    for (size_t round = 0; round < action.size(); ++round) {
      const bool is_bin = round % 4 == 1 || round % 4 == 2;
      EXPECT_EQ(action[round] >= 100, is_bin);
      (is_bin ? bins : low) += 1;
    }
  }
  EXPECT_EQ(shortest, 1u);
  EXPECT_GT(low, 20u);
  EXPECT_GT(bins, 20u);
}

TEST(TokenLoopTest, GraphsAreRefusedOnACpuNamingTheSettings) {
  const Model model(gpu_config(Precision::kFp32), loop_shape(), 7, Model::Purpose::kInference);
  Decoder decoder(model, 1, 8);
  try {
    const TokenLoop loop(decoder, true);
    FAIL() << "graphs were taken";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("--cuda-graph"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("--device"), std::string::npos) << error.what();
  }
}

TEST(TokenLoopTest, RefusedCallsChangeNothing) {
  const Model model(gpu_config(Precision::kFp32), loop_shape(), 7, Model::Purpose::kInference);
  Decoder decoder(model, 3, 8);
  TokenLoop loop(decoder, false);
  const Tokens t = without_patches(make_tokens(5, 4));
  const std::vector<int64_t> slots{0, 2};
  const at::Tensor hidden = decoder.append(slots, std::vector<DecoderInput>{t.part(0, 5), t.part(0, 2)});
  const auto refused = [&](const std::vector<int64_t>& of, const at::Tensor& from, std::vector<TokenChoice> choices) {
    EXPECT_THROW((void)loop.choose(of, from, choices), ContractError);
  };
  const TokenChoice good{0, 10};
  const auto bad = [&](auto change) {
    TokenChoice choice = good;
    change(choice);
    refused(slots, hidden, {good, choice});
  };
  refused({}, hidden, {});
  refused(slots, hidden, {});
  refused(slots, hidden, {good, good, good});
  refused(slots, hidden.narrow(0, 0, 1), {good, good});
  refused({0, 0}, hidden, {good, good});
  refused({0, 3}, hidden, {good, good});
  refused({0, 1}, hidden, {good, good});                          // slot 1 is empty
  refused(slots, hidden, std::vector<TokenChoice>(2 * 5, good));  // slot 0 holds 5 of 8, and 4 more would come
  refused(slots, hidden, std::vector<TokenChoice>(2 * 65, good));
  bad([](TokenChoice& c) { c.num_ids = 0; });
  bad([](TokenChoice& c) { c.first_id = -1; });
  bad([](TokenChoice& c) { c.num_ids = 1201; });
  bad([](TokenChoice& c) { c.local_position = 513; });
  bad([](TokenChoice& c) { c.choice = Choice::kMean; });
  bad([](TokenChoice& c) {
    c.choice = Choice::kSample;
    c.temperature = 0;
  });
  EXPECT_EQ(decoder.length(0), 5);
  EXPECT_EQ(decoder.length(2), 2);
  EXPECT_EQ(loop.choose(slots, hidden, std::vector<TokenChoice>(2 * 4, good))[1].size(), 4u);
  EXPECT_EQ(decoder.length(0), 8);
  EXPECT_EQ(decoder.length(2), 5);
}

}  // namespace
}  // namespace gato::model
