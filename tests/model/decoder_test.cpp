#include "gato/model/decoder.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "gato/core/error.h"
#include "model/decoder_tokens.h"
#include "model/small_model.h"

namespace gato::model {
namespace {

using namespace testing;

/// Hidden states [length, C] by Model::forward.
at::Tensor whole(const Model& model, const Tokens& t) {
  const auto length = static_cast<int64_t>(t.ids.size());
  ModelInput in;
  in.ids = at::tensor(t.ids, at::kInt).view({1, length});
  in.local_positions = at::tensor(std::vector<int32_t>(t.locals.begin(), t.locals.end()), at::kInt).view({1, length});
  in.sequence_starts = at::zeros({1, length}, at::kInt);
  in.patch_index = in.ids.view(-1).eq(-1).nonzero().view(-1);
  in.patches = at::tensor(std::vector<uint8_t>(t.patches.begin(), t.patches.end()), at::kByte).view({-1, 16, 16, 3});
  in.patch_rows = at::tensor(std::vector<int32_t>(t.rows.begin(), t.rows.end()), at::kInt);
  in.patch_columns = at::tensor(std::vector<int32_t>(t.columns.begin(), t.columns.end()), at::kInt);
  return model.forward(in);
}

constexpr Tolerance kSame{1e-5, 1e-5};

class DecoderTest : public ::testing::TestWithParam<PositionEncoding> {
 protected:
  DecoderTest() {
    ModelConfig config = small_config();
    config.position = GetParam();
    model_ = std::make_unique<Model>(config, small_shape(), 7, Model::Purpose::kInference);
  }
  std::unique_ptr<Model> model_;
};

TEST_P(DecoderTest, EqualsForwardForSlotsOfDifferentLengths) {
  const std::vector<Tokens> sequences{make_tokens(31, 1), make_tokens(7, 2), make_tokens(33, 3)};
  std::vector<at::Tensor> expected;
  for (const Tokens& t : sequences) expected.push_back(whole(*model_, t));
  Decoder decoder(*model_, 4, 33);
  Rng rng(9);
  std::vector<size_t> done(3, 0);
  for (;;) {
    std::vector<int64_t> slots;
    std::vector<DecoderInput> inputs;
    for (size_t s = 0; s < 3; ++s) {
      const size_t left = sequences[s].ids.size() - done[s];
      const size_t count = std::min<size_t>(left, static_cast<size_t>(rng.below(6)));
      if (count == 0) continue;
      slots.push_back(static_cast<int64_t>(3 - s));
      inputs.push_back(sequences[s].part(done[s], done[s] + count));
      done[s] += count;
    }
    if (done[0] == 31 && done[1] == 7 && done[2] == 33 && slots.empty()) break;
    if (slots.empty()) continue;
    const at::Tensor hidden = decoder.append(slots, inputs);
    ASSERT_EQ(hidden.size(0), static_cast<int64_t>(slots.size()));
    for (size_t i = 0; i < slots.size(); ++i) {
      const auto s = static_cast<size_t>(3 - slots[i]);
      EXPECT_TRUE(all_close(hidden[static_cast<int64_t>(i)], expected[s][static_cast<int64_t>(done[s]) - 1], kSame));
      EXPECT_EQ(decoder.length(slots[i]), static_cast<int64_t>(done[s]));
    }
  }
}

TEST_P(DecoderTest, SlotsAreForgottenAndCut) {
  const Tokens a = make_tokens(20, 1), b = make_tokens(20, 2);
  const at::Tensor expected_a = whole(*model_, a), expected_b = whole(*model_, b);
  Decoder decoder(*model_, 1, 40);
  const std::vector<int64_t> slot{0};
  (void)decoder.append(slot, std::vector<DecoderInput>{a.part(0, 20)});
  decoder.reset(0);
  EXPECT_EQ(decoder.length(0), 0);
  EXPECT_TRUE(all_close(decoder.append(slot, std::vector<DecoderInput>{b.part(0, 12)})[0], expected_b[11], kSame));
  decoder.truncate(0, 5);
  EXPECT_TRUE(all_close(decoder.append(slot, std::vector<DecoderInput>{b.part(5, 20)})[0], expected_b[19], kSame));
  decoder.reset(0);
  EXPECT_TRUE(all_close(decoder.append(slot, std::vector<DecoderInput>{a.part(0, 1)})[0], expected_a[0], kSame));
}

TEST_P(DecoderTest, LogitsAreTheModels) {
  Decoder decoder(*model_, 1, 10);
  const Tokens t = make_tokens(4, 1);
  const at::Tensor hidden = decoder.append(std::vector<int64_t>{0}, std::vector<DecoderInput>{t.part(0, 4)});
  EXPECT_FALSE(hidden.requires_grad());
  EXPECT_TRUE(all_close(decoder.logits(hidden, 40, 32), model_->logits(hidden, 40, 32), kSame));
  EXPECT_TRUE(same_bits(decoder.logits(hidden, 41, 7), decoder.logits(hidden, 40, 32).slice(1, 1, 8).contiguous()));
}

/// Hidden states [slots, C] behind the last tokens of sequences, one per slot, fed in calls of count() tokens per slot.
at::Tensor fed(Decoder& decoder, const std::vector<Tokens>& sequences, const std::function<size_t()>& count) {
  std::vector<at::Tensor> last(sequences.size());
  for (size_t unfinished = sequences.size(); unfinished > 0;) {
    std::vector<int64_t> slots;
    std::vector<DecoderInput> inputs;
    for (size_t s = 0; s < sequences.size(); ++s) {
      const auto held = static_cast<size_t>(decoder.length(static_cast<int64_t>(s)));
      const size_t n = std::min(sequences[s].ids.size() - held, count());
      if (n == 0) continue;
      slots.push_back(static_cast<int64_t>(s));
      inputs.push_back(sequences[s].part(held, held + n));
    }
    if (slots.empty()) continue;
    const at::Tensor hidden = decoder.append(slots, inputs);
    for (size_t i = 0; i < slots.size(); ++i) {
      const auto s = static_cast<size_t>(slots[i]);
      if (decoder.length(slots[i]) < static_cast<int64_t>(sequences[s].ids.size())) continue;
      last[s] = hidden[static_cast<int64_t>(i)];
      --unfinished;
    }
  }
  return at::stack(last);
}

constexpr kernels::WeightType kWeightTypes[] = {kernels::WeightType::kFp32, kernels::WeightType::kBf16,
                                                kernels::WeightType::kInt8};

TEST_P(DecoderTest, BitsDoNotDependOnCallsOtherSlotsOrThreads) {
  std::vector<Tokens> sequences{make_tokens(70, 1), make_tokens(7, 2), make_tokens(33, 3)};
  for (Tokens& t : sequences) t = without_patches(t);
  const int threads = at::get_num_threads();
  for (const kernels::WeightType type : kWeightTypes) {
    const auto weights = std::make_shared<const ActingWeights>(*model_, type);
    Decoder together(weights, 3, 70);
    Rng rng(9);
    const at::Tensor all = fed(together, sequences, [&] { return static_cast<size_t>(rng.below(30)); });
    at::set_num_threads(3);
    for (size_t s = 0; s < sequences.size(); ++s) {
      Decoder alone(weights, 1, 70);
      EXPECT_TRUE(same_bits(fed(alone, {sequences[s]}, [] { return size_t{1}; })[0], all[static_cast<int64_t>(s)]));
    }
    at::set_num_threads(threads);
  }
}

TEST_P(DecoderTest, NarrowWeightsStayCloseToTheModel) {
  const std::vector<Tokens> sequences{make_tokens(40, 1), make_tokens(21, 2)};
  const at::Tensor exact = at::stack({whole(*model_, sequences[0])[39], whole(*model_, sequences[1])[20]});
  at::Tensor before = exact;
  for (const kernels::WeightType type : kWeightTypes) {
    Decoder decoder(std::make_shared<const ActingWeights>(*model_, type), 2, 40);
    const at::Tensor hidden = fed(decoder, sequences, [] { return size_t{9}; }).to(at::kFloat);
    // Behind the final norm: numbers around 1.
    const double most = type == kernels::WeightType::kFp32 ? 2e-5 : type == kernels::WeightType::kBf16 ? 0.06 : 0.15;
    EXPECT_TRUE(all_close(hidden, exact, {most, 0}));
    EXPECT_FALSE(same_bits(hidden, before));  // the weights asked for are those in use
    before = hidden;
  }
}

TEST_P(DecoderTest, DroppingTheOldestTokensEqualsARowWithoutThem) {
  // What a policy does when its window is full: the newer half is computed anew, from position 0 on.
  const Tokens t = make_tokens(60, 5);
  Decoder decoder(*model_, 2, 32);
  const std::vector<int64_t> slots{0, 1};
  const Tokens other = make_tokens(32, 6);
  const at::Tensor expected_other = whole(*model_, other);
  Tokens window;
  size_t first = 0, held = 0;
  for (size_t end = 4; end <= 60; end += 4) {
    if (held + 4 > 32) {
      decoder.reset(0);
      first = end - 4 - 16;
      held = 0;
    }
    const size_t begin = held == 0 ? first : end - 4;
    const at::Tensor hidden = decoder.append(std::span(slots).first(1), std::vector<DecoderInput>{t.part(begin, end)});
    held += end - begin;
    EXPECT_TRUE(all_close(hidden[0], whole(*model_, t.cut(first, end))[static_cast<int64_t>(end - first) - 1], kSame));
    if (end % 8 == 0 && decoder.length(1) < 32) {  // a neighbour that goes on
      const auto at = static_cast<size_t>(decoder.length(1));
      const at::Tensor beside =
          decoder.append(std::span(slots).last(1), std::vector<DecoderInput>{other.part(at, at + 4)});
      EXPECT_TRUE(all_close(beside[0], expected_other[static_cast<int64_t>(at) + 3], kSame));
    }
  }
  EXPECT_GT(first, 16U);  // more than once
}

TEST_P(DecoderTest, CacheMayBeWiderThanActivations) {
  const std::vector<Tokens> sequences{make_tokens(40, 1)};
  const auto weights = std::make_shared<const ActingWeights>(*model_, kernels::WeightType::kBf16);
  Decoder narrow(weights, 1, 40), wide(weights, 1, 40, at::kFloat);
  const auto count = [] { return size_t{9}; };
  EXPECT_TRUE(all_close(fed(narrow, sequences, count), fed(wide, sequences, count), {0.06, 0}));
  EXPECT_THROW(Decoder(std::make_shared<const ActingWeights>(*model_), 1, 40, at::kBFloat16), ContractError);
}

TEST_P(DecoderTest, WeightsAreCopiesOfTheSizeAsked) {
  const auto bytes = [&](kernels::WeightType type) { return ActingWeights(*model_, type).bytes(); };
  EXPECT_LT(bytes(kernels::WeightType::kBf16), bytes(kernels::WeightType::kFp32));
  EXPECT_LT(bytes(kernels::WeightType::kInt8), bytes(kernels::WeightType::kBf16));
  Decoder decoder(*model_, 1, 10);
  const Tokens t = without_patches(make_tokens(4, 1));
  const at::Tensor before = decoder.append(std::vector<int64_t>{0}, std::vector<DecoderInput>{t.part(0, 4)}).clone();
  at::Tensor map = model_->store().parameter("blocks.0.attention.qkv.weight").value;
  map.mul_(2);
  decoder.reset(0);
  EXPECT_TRUE(same_bits(decoder.append(std::vector<int64_t>{0}, std::vector<DecoderInput>{t.part(0, 4)}), before));
}

INSTANTIATE_TEST_SUITE_P(Positions, DecoderTest,
                         ::testing::Values(PositionEncoding::kRotary, PositionEncoding::kRelative,
                                           PositionEncoding::kNone),
                         [](const auto& test) { return position_name(test.param); });

TEST(DecoderContractTest, RefusedCallsChangeNothing) {
  const Model model(small_config(), small_shape(), 7, Model::Purpose::kInference);
  Decoder decoder(model, 2, 8);
  const Tokens t = make_tokens(9, 4);
  const auto append = [&](std::vector<int64_t> slots, std::vector<DecoderInput> inputs) {
    (void)decoder.append(slots, inputs);
  };
  append({0}, {t.part(0, 3)});
  EXPECT_THROW(append({1, 0}, {t.part(0, 2), t.part(3, 9)}), ContractError);  // slot 0 would hold 9
  EXPECT_THROW(append({0, 0}, {t.part(3, 4), t.part(4, 5)}), ContractError);
  EXPECT_THROW(append({2}, {t.part(0, 1)}), ContractError);
  EXPECT_THROW(append({0}, {t.part(0, 0)}), ContractError);
  EXPECT_THROW(append({}, {}), ContractError);
  EXPECT_THROW(append({0, 1}, {t.part(0, 1)}), ContractError);
  DecoderInput short_locals = t.part(0, 2);
  short_locals.local_positions = short_locals.local_positions.subspan(1);
  EXPECT_THROW(append({1}, {short_locals}), ContractError);
  const std::vector<int32_t> patch{-1}, beyond{90};
  const std::vector<int16_t> none{-1};
  EXPECT_THROW(append({1}, {DecoderInput{patch, none, {}, {}, {}}}), ContractError);
  EXPECT_THROW(append({1}, {DecoderInput{beyond, none, {}, {}, {}}}), ContractError);
  EXPECT_THROW(decoder.truncate(0, 4), ContractError);
  EXPECT_THROW((void)decoder.length(-1), ContractError);
  EXPECT_EQ(decoder.length(0), 3);
  EXPECT_EQ(decoder.length(1), 0);
  EXPECT_TRUE(all_close(decoder.append(std::vector<int64_t>{0}, std::vector<DecoderInput>{t.part(3, 8)})[0],
                        whole(model, t)[7], kSame));
}

}  // namespace
}  // namespace gato::model
