#include "gato/tokenizer/sequence.h"

#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "gato/core/error.h"
#include "gato/tokenizer/numbers.h"
#include "small_model.h"
#include "specs.h"

namespace gato::tokenizer {
namespace {

using episode::FieldSpec;
using episode::FieldValue;
using episode::Image;
using episode::Modality;
using episode::StepValues;
using episode::TaskSpec;
using test::continuous_field;
using test::continuous_value;
using test::discrete_field;
using test::discrete_value;
using test::image_field;
using test::image_value;
using test::make_task;
using test::small_tokenizer;
using test::text_field;
using test::text_value;
using Ids = std::vector<int32_t>;

const Vocabulary kVocabulary(1024, false);

TokenSequence tokens_of(const TaskTokenizer& tokenizer, const StepValues& observation, const StepValues& action,
                        const StepValues& label = {}, const LossWeights& weights = {}) {
  StepStorage storage;
  TokenSequence out;
  tokenizer.append_step(storage.view(tokenizer.spec(), &small_tokenizer(), observation, action, label), weights, out);
  return out;
}

template <class Error, class Call>
std::string message_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing was thrown";
}

#define EXPECT_SAYS(message, part) EXPECT_NE((message).find(part), std::string::npos) << "it says: " << (message)

TEST(PatchPositionTest, IntervalsCoverAll128WithoutGap) {
  for (int64_t n = 1; n <= kPatchIntervals; ++n) {
    int border = 0;
    for (int64_t i = 0; i < n; ++i) {
      const PatchPosition row = patch_position(i, 0, n, 1), column = patch_position(0, i, 1, n);
      ASSERT_EQ(row.row_low, border);
      ASSERT_GT(row.row_high, row.row_low);
      ASSERT_EQ(column.column_low, row.row_low);
      ASSERT_EQ(column.column_high, row.row_high);
      border = row.row_high;
    }
    ASSERT_EQ(border, 128) << n;
  }
}

TEST(PatchPositionTest, HasGoldenIntervals) {
  EXPECT_EQ(patch_position(0, 0, 4, 5), (PatchPosition{0, 32, 0, 25}));
  EXPECT_EQ(patch_position(1, 2, 4, 5), (PatchPosition{32, 64, 51, 76}));
  EXPECT_EQ(patch_position(3, 4, 4, 5), (PatchPosition{96, 128, 102, 128}));
  EXPECT_EQ(patch_position(127, 0, 128, 1), (PatchPosition{127, 128, 0, 128}));
}

TEST(PatchPositionTest, RefusesWhatIsNotInTheImage) {
  EXPECT_THROW(static_cast<void>(patch_position(0, 0, 129, 1)), ContractError);
  EXPECT_THROW(static_cast<void>(patch_position(0, 0, 0, 1)), ContractError);
  EXPECT_THROW(static_cast<void>(patch_position(4, 0, 4, 4)), ContractError);
  EXPECT_THROW(static_cast<void>(patch_position(0, -1, 4, 4)), ContractError);
}

// Every rule at once: order, ids, kinds, positions, targets and losses of one step.
TEST(TaskTokenizerTest, OneStepOfEveryModality) {
  const TaskTokenizer tokenizer(
      make_task({continuous_field("z", {2}), discrete_field("a", {2}, 1000), image_field("picture", 20, 16),
                 text_field("b"), text_field("a_text")},
                {discrete_field("button", {}, 5), continuous_field("arm", {2}, -2, 2), text_field("say")}),
      kVocabulary, &small_tokenizer());
  Image image = test::make_image(20, 16, 1);
  const TokenSequence out = tokens_of(
      tokenizer,
      {continuous_value({0, 1}), discrete_value({7, 999}), image_value(image), text_value("\n"), text_value(" the")},
      {discrete_value({3}), continuous_value({-2, 1}), text_value(" and")}, {}, LossWeights{2, 0.5f, 0.25f});
  const int32_t the = small_tokenizer().encode(" the").at(0), feed = small_tokenizer().encode("\n").at(0);
  const int32_t and_id = small_tokenizer().encode(" and").at(0), end = small_tokenizer().end_id();
  const int32_t bin = kVocabulary.first_bin();
  const auto separator = kVocabulary.separator();
  // Texts a_text, b; the image's two patches; tensors a, z; separator; text say; tensors arm, button.
  EXPECT_EQ(out.ids,
            (Ids{the, end, feed, -1, -1, 7, 999, bin + 512, bin + 744, separator, and_id, end, bin, bin + 768, 3}));
  EXPECT_EQ(out.targets, out.ids);
  EXPECT_EQ(out.local_positions, (std::vector<int16_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, -1, -1, -1, 512, 512, 512}));
  using K = TokenKind;
  EXPECT_EQ(out.kinds, (std::vector<K>{K::kText, K::kText, K::kText, K::kImage, K::kImage, K::kDiscrete, K::kDiscrete,
                                       K::kContinuous, K::kContinuous, K::kSeparator, K::kText, K::kText,
                                       K::kContinuous, K::kContinuous, K::kDiscrete}));
  EXPECT_EQ(out.is_action, (std::vector<uint8_t>{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1}));
  EXPECT_EQ(out.loss_weights, (std::vector<float>{0.5, 0.5, 0.5, 0, 0, 0.25, 0.25, 0.25, 0.25, 0, 2, 2, 2, 2, 2}));
  EXPECT_EQ(out.patch_positions, (std::vector<PatchPosition>{{0, 64, 0, 128}, {64, 128, 0, 128}}));
  EXPECT_EQ(out.patches.size(), static_cast<size_t>(2 * kPatchBytes));
  EXPECT_EQ(tokenizer.fixed_tokens(), 12);  // without the three text tokens
  EXPECT_EQ(tokenizer.step_tokens(3), out.size());
  EXPECT_EQ(tokenizer.fixed_action_tokens(), 4);
  EXPECT_EQ(out.num_patches(), 2);
}

TEST(TaskTokenizerTest, ObservedTokensCarryNoLossByDefault) {
  const TaskTokenizer tokenizer(make_task({continuous_field("x", {3}), text_field("t")}, {discrete_field("a", {}, 4)}),
                                kVocabulary, &small_tokenizer());
  const TokenSequence out =
      tokens_of(tokenizer, {continuous_value({1, 2, 3}), text_value(" the")}, {discrete_value({1})});
  EXPECT_EQ(out.loss_weights, (std::vector<float>{0, 0, 0, 0, 0, 1}));
}

TEST(TaskTokenizerTest, SeparatorStandsOnlyBetweenObservationAndAction) {
  const TaskTokenizer tokenizer(make_task({}, {discrete_field("a", {2}, 4)}), kVocabulary, nullptr);
  const TokenSequence out = tokens_of(tokenizer, {}, {discrete_value({1, 3})});
  EXPECT_EQ(out.ids, (Ids{1, 3}));
  EXPECT_EQ(tokenizer.fixed_tokens(), 2);
}

TEST(TaskTokenizerTest, LabelsAreTargetsAndExecutedActionsAreInputs) {
  const TaskTokenizer tokenizer(
      make_task({continuous_field("x", {})}, {continuous_field("torque", {2}, -1, 1), discrete_field("button", {}, 8)}),
      kVocabulary, nullptr);
  const TokenSequence out =
      tokens_of(tokenizer, {continuous_value({0})}, {continuous_value({-1, 1}), discrete_value({2})},
                {continuous_value({1, -1}), discrete_value({5})});
  const int32_t bin = kVocabulary.first_bin(), separator = kVocabulary.separator();
  EXPECT_EQ(out.ids, (Ids{bin + 512, separator, 2, bin, bin + 1023}));
  EXPECT_EQ(out.targets, (Ids{bin + 512, separator, 5, bin + 1023, bin}));
}

TEST(TaskTokenizerTest, TextLabelsMustHaveAsManyTokens) {
  const TaskTokenizer tokenizer(make_task({continuous_field("x", {})}, {text_field("say")}), kVocabulary,
                                &small_tokenizer());
  const TokenSequence out = tokens_of(tokenizer, {continuous_value({0})}, {text_value(" the")}, {text_value(" and")});
  EXPECT_EQ(out.targets[2], small_tokenizer().encode(" and").at(0));
  EXPECT_SAYS(message_of<DataError>([&] {
                tokens_of(tokenizer, {continuous_value({0})}, {text_value(" the")}, {text_value(" and and")});
              }),
              "field 'say': the label has 2 text tokens, the action 1");
}

TEST(TaskTokenizerTest, DiscreteValuesMayHaveAPrivateRange) {
  const Vocabulary vocabulary(1024, true);
  const TaskTokenizer tokenizer(make_task({discrete_field("x", {}, 1024)}, {discrete_field("a", {}, 2)}), vocabulary,
                                nullptr);
  const TokenSequence out = tokens_of(tokenizer, {discrete_value({1023})}, {discrete_value({1})});
  EXPECT_EQ(out.ids, (Ids{3072, 2048, 2050}));
}

TEST(TaskTokenizerTest, AppendsToWhatIsThere) {
  const TaskTokenizer tokenizer(make_task({image_field("i", 16, 16)}, {discrete_field("a", {}, 4)}), kVocabulary,
                                nullptr);
  StepStorage storage;
  TokenSequence out;
  const StepValues observation = {image_value(test::make_image(16, 16, 2))}, action = {discrete_value({1})};
  const StepView step = storage.view(tokenizer.spec(), nullptr, observation, action);
  tokenizer.append_step(step, {}, out);
  const TokenSequence first = out;
  tokenizer.append_step(step, {}, out);
  EXPECT_EQ(out.size(), 2 * first.size());
  EXPECT_EQ(Ids(out.ids.begin() + 3, out.ids.end()), first.ids);
  EXPECT_EQ(out.patches.size(), 2 * first.patches.size());
  out.clear();
  EXPECT_EQ(out, TokenSequence());
}

TEST(ImageTest, PatchesAreCutInRasterOrderAndPaddedWithZeros) {
  const TaskTokenizer tokenizer(make_task({image_field("i", 0, 0)}, {discrete_field("a", {}, 4)}), kVocabulary,
                                nullptr);
  const Image image = test::make_image(17, 33, 3);
  const TokenSequence out = tokens_of(tokenizer, {image_value(image)}, {discrete_value({0})});
  ASSERT_EQ(out.num_patches(), 2 * 3);
  for (int64_t p = 0; p < 6; ++p) {
    for (int64_t y = 0; y < 16; ++y) {
      for (int64_t x = 0; x < 16; ++x) {
        const int64_t row = p / 3 * 16 + y, column = p % 3 * 16 + x;
        for (int64_t c = 0; c < 3; ++c) {
          const int expected =
              row < 17 && column < 33 ? image.pixels[static_cast<size_t>((row * 33 + column) * 3 + c)] : 0;
          ASSERT_EQ(out.patches[static_cast<size_t>(p * kPatchBytes + (y * 16 + x) * 3 + c)], expected)
              << p << " " << y << " " << x;
        }
      }
    }
    EXPECT_EQ(out.patch_positions[static_cast<size_t>(p)], patch_position(p / 3, p % 3, 2, 3));
  }
}

TEST(ImageTest, SizesThatVaryLeaveStepsWithoutAFixedLength) {
  const TaskTokenizer tokenizer(make_task({image_field("i", 0, 32)}, {discrete_field("a", {}, 4)}), kVocabulary,
                                nullptr);
  EXPECT_SAYS(message_of<DataError>([&] { static_cast<void>(tokenizer.fixed_tokens()); }), "vary in size");
  const StepValues observation = {image_value(test::make_image(48, 32, 4))}, action = {discrete_value({0})};
  StepStorage storage;
  EXPECT_EQ(tokenizer.count_tokens(storage.view(tokenizer.spec(), nullptr, observation, action)), 8);
  EXPECT_EQ(tokens_of(tokenizer, observation, action).size(), 8);
}

TEST(ImageTest, RefusesImagesThatDoNotFit) {
  const auto refusal = [](int64_t height, int64_t width, Image image) {
    const TaskTokenizer tokenizer(make_task({image_field("eye", height, width)}, {discrete_field("a", {}, 4)}),
                                  kVocabulary, nullptr);
    return message_of<DataError>([&] { tokens_of(tokenizer, {image_value(image)}, {discrete_value({0})}); });
  };
  EXPECT_SAYS(refusal(32, 32, test::make_image(32, 31, 5)),
              "'eye': an image of 32 x 31 pixels, but the specification says 32 x 32");
  EXPECT_SAYS(refusal(0, 0, Image{}), "sides must be in [1, 2048]");
  EXPECT_SAYS(refusal(0, 0, Image{-500, 400, {}}), "sides must be in [1, 2048]");
  EXPECT_SAYS(refusal(0, 0, test::make_image(2049, 1, 6)), "sides must be in [1, 2048]");
  Image short_image = test::make_image(16, 16, 7);
  short_image.pixels.pop_back();
  EXPECT_SAYS(refusal(16, 16, short_image), "has 767 bytes instead of 768");
  EXPECT_SAYS(refusal(0, 0, test::make_image(512, 512, 8)), "an observation of 1024 tokens (eye: 1024)");
}

TEST(TaskTokenizerTest, TheLastLocalPositionIs511) {
  const TaskTokenizer tokenizer(make_task({continuous_field("x", {512})}, {discrete_field("a", {}, 4)}), kVocabulary,
                                nullptr);
  const TokenSequence out = tokens_of(tokenizer, {continuous_value(std::vector<float>(512))}, {discrete_value({0})});
  EXPECT_EQ(out.local_positions[511], 511);
  EXPECT_EQ(out.local_positions[512], kNoPosition);
  EXPECT_SAYS(message_of<ConfigError>([] {
                TaskTokenizer(
                    make_task({continuous_field("x", {500}), image_field("i", 64, 64)}, {discrete_field("a", {}, 4)}),
                    kVocabulary, nullptr);
              }),
              "task 'test/task': one observation has at least 516 tokens besides text (i: 16, x: 500), at most 512");
}

TEST(TaskTokenizerTest, RefusesObservedTextsBeyondTheLocalPositions) {
  const TaskTokenizer tokenizer(
      make_task({text_field("t"), continuous_field("x", {510})}, {discrete_field("a", {}, 4)}), kVocabulary,
      &small_tokenizer());
  const StepValues fits = {text_value(" the and"), continuous_value(std::vector<float>(510))};
  EXPECT_EQ(tokens_of(tokenizer, fits, {discrete_value({0})}).size(), 514);
  const StepValues too_long = {text_value(" the and the"), continuous_value(std::vector<float>(510))};
  EXPECT_SAYS(message_of<DataError>([&] { tokens_of(tokenizer, too_long, {discrete_value({0})}); }),
              "task 'test/task': an observation of 513 tokens (t: 3, x: 510), at most 512");
}

TEST(TaskTokenizerTest, RefusesSpecificationsThatCannotWork) {
  const auto refusal = [](const TaskSpec& spec, const TextTokenizer* text, const Vocabulary& vocabulary = kVocabulary) {
    return message_of<ConfigError>([&] { TaskTokenizer(spec, vocabulary, text); });
  };
  const auto with = [](const FieldSpec& field) { return make_task({field}, {discrete_field("a", {}, 4)}); };
  EXPECT_SAYS(refusal(with(image_field("eye", 2049, 16)), nullptr),
              "'eye': an image of 2049 x 16 pixels has 129 x 1 patches");
  EXPECT_EQ(refusal(with(image_field("eye", 2048, 16)), nullptr), "nothing was thrown");
  EXPECT_SAYS(refusal(with(text_field("t")), nullptr), "no text tokenizer");
  EXPECT_SAYS(refusal(with(text_field("t")), &small_tokenizer(), Vocabulary(2000, false)), "do not belong together");
  EXPECT_SAYS(refusal(with(discrete_field("d", {}, 1025)), nullptr), "num_values");
  EXPECT_SAYS(refusal(make_task({}, {}), nullptr), "no action");
}

TEST(TaskTokenizerTest, RefusesValuesAndLeavesTheSequenceAsItWas) {
  const TaskSpec spec = make_task({continuous_field("x", {2}), discrete_field("d", {2}, 10), image_field("i", 16, 16)},
                                  {continuous_field("u", {2}, -1, 1), text_field("say")});
  const TaskTokenizer tokenizer(spec, kVocabulary, &small_tokenizer());
  const Image image = test::make_image(16, 16, 9);
  const std::vector<float> good = {1, 2}, nan = {1, std::numeric_limits<float>::quiet_NaN()};
  const std::vector<uint16_t> low = {0, 9}, high = {0, 10};
  const std::vector<uint32_t> text = {300, 400}, unknown = {300, 1024}, with_end = {300, 1};
  const TokenSequence before =
      tokens_of(tokenizer, {continuous_value(good), discrete_value({0, 9}), image_value(image)},
                {continuous_value(good), text_value(" the")});
  const auto message = [&](const std::vector<float>& x, const std::vector<uint16_t>& d, const std::vector<float>& u,
                           const std::vector<uint32_t>& say) {
    std::vector<FieldView> observation(3), action(2);
    observation[0].continuous = x;
    observation[1].discrete = d;
    observation[2].image = &image;
    action[0].continuous = u;
    action[1].text = say;
    TokenSequence out = before;
    const std::string words = message_of<DataError>([&] { tokenizer.append_step({observation, action, {}}, {}, out); });
    EXPECT_TRUE(words == "nothing was thrown" || out == before);
    return words;
  };
  EXPECT_EQ(message(good, low, good, text), "nothing was thrown");
  EXPECT_SAYS(message(nan, low, good, text), "task 'test/task', observation field 'x': element 1 is NaN");
  EXPECT_SAYS(message(good, high, good, text), "observation field 'd': element 1 is 10, must be below 10");
  EXPECT_SAYS(message(good, low, nan, text), "action field 'u': element 1 is NaN");
  EXPECT_SAYS(message(good, low, good, unknown), "action field 'say': text token 1 has id 1024");
  EXPECT_SAYS(message(good, low, good, with_end), "action field 'say': text token 1 is the end piece 1");
  EXPECT_SAYS(message({1}, low, good, text), "field 'x': the value has 1 elements, its specification 2");
  EXPECT_SAYS(message(good, {1, 2, 3}, good, text), "field 'd': the value has 3 elements");
  EXPECT_SAYS(message(good, low, {}, text), "field 'u': the value has 0 elements");
}

TEST(TaskTokenizerTest, RefusesViewsOfAnotherTask) {
  const TaskTokenizer tokenizer(make_task({continuous_field("x", {})}, {discrete_field("a", {}, 4)}), kVocabulary,
                                nullptr);
  TokenSequence out;
  EXPECT_THROW(tokenizer.append_step({}, {}, out), ContractError);
  EXPECT_EQ(out.size(), 0);
}

TEST(StepStorageTest, RefusesValuesThatDoNotFitTheirFields) {
  const TaskSpec spec = make_task({discrete_field("d", {2}, 10), text_field("t")}, {discrete_field("a", {}, 4)});
  StepStorage storage;
  const auto refusal = [&](const StepValues& observation, const TextTokenizer* text) {
    return message_of<DataError>([&] { static_cast<void>(storage.view(spec, text, observation)); });
  };
  EXPECT_SAYS(refusal({discrete_value({3, 10}), text_value("")}, &small_tokenizer()),
              "'d': element 1 is 10, must be in [0, 10)");
  EXPECT_SAYS(refusal({discrete_value({-1, 3}), text_value("")}, &small_tokenizer()), "'d': element 0 is -1");
  EXPECT_SAYS(refusal({discrete_value({3, 3}), text_value("a\xff")}, &small_tokenizer()), "'t': byte 1 ");
  EXPECT_SAYS(refusal({discrete_value({3, 3}), text_value("a")}, nullptr), "no text tokenizer");
  EXPECT_SAYS(refusal({discrete_value({3, 3})}, &small_tokenizer()), "1 observation values for 2 fields");
}

TEST(DocumentTest, WindowsOfADocument) {
  const TaskTokenizer tokenizer(make_task({}, {text_field("text")}), kVocabulary, &small_tokenizer());
  ASSERT_TRUE(tokenizer.is_document());
  EXPECT_EQ(tokenizer.fixed_tokens(), 1);
  EXPECT_EQ(tokenizer.fixed_action_tokens(), 1);
  const std::vector<uint32_t> text = {300, 301, 302};
  const auto window = [&](int64_t first, int64_t count) {
    TokenSequence out;
    tokenizer.append_document(text, first, count, {3, 0, 0}, out);
    EXPECT_EQ(out.targets, out.ids);
    EXPECT_EQ(out.loss_weights, std::vector<float>(static_cast<size_t>(count), 3));
    EXPECT_EQ(out.is_action, std::vector<uint8_t>(static_cast<size_t>(count), 1));
    EXPECT_EQ(out.kinds, std::vector<TokenKind>(static_cast<size_t>(count), TokenKind::kText));
    EXPECT_EQ(out.local_positions, std::vector<int16_t>(static_cast<size_t>(count), -1));
    return out.ids;
  };
  EXPECT_EQ(window(0, 4), (Ids{300, 301, 302, 1}));
  EXPECT_EQ(window(0, 2), (Ids{300, 301}));
  EXPECT_EQ(window(1, 2), (Ids{301, 302}));
  EXPECT_EQ(window(2, 2), (Ids{302, 1}));
  EXPECT_EQ(window(3, 1), (Ids{1}));
  EXPECT_EQ(window(4, 0), Ids{});
  TokenSequence out;
  EXPECT_THROW(tokenizer.append_document(text, 0, 5, {}, out), ContractError);
  EXPECT_THROW(tokenizer.append_document(text, -1, 2, {}, out), ContractError);
  const std::vector<uint32_t> bad = {300, 5000};
  EXPECT_THROW(tokenizer.append_document(bad, 0, 3, {}, out), DataError);
  EXPECT_EQ(out.size(), 0);
}

TEST(DocumentTest, WholeDocumentsAreTheSameAsSteps) {
  const TaskTokenizer tokenizer(make_task({}, {text_field("text")}), kVocabulary, &small_tokenizer());
  const std::string words = "In the beginning God created";
  const std::vector<int32_t> ids = small_tokenizer().encode(words);
  TokenSequence document;
  tokenizer.append_document(std::vector<uint32_t>(ids.begin(), ids.end()), 0, static_cast<int64_t>(ids.size()) + 1, {},
                            document);
  EXPECT_EQ(document, tokens_of(tokenizer, {}, {text_value(words)}));
}

TEST(DocumentTest, OnlyALoneTextActionIsADocument) {
  const auto is_document = [](const TaskSpec& spec) {
    return TaskTokenizer(spec, kVocabulary, &small_tokenizer()).is_document();
  };
  EXPECT_FALSE(is_document(make_task({text_field("q")}, {text_field("a")})));
  EXPECT_FALSE(is_document(make_task({}, {text_field("a"), text_field("b")})));
  EXPECT_FALSE(is_document(make_task({}, {discrete_field("a", {}, 4)})));
}

TEST(TaskTokenizerTest, CopiesShareWhatTheyKnow) {
  const TaskTokenizer original(make_task({continuous_field("x", {})}, {discrete_field("a", {}, 4)}), kVocabulary,
                               nullptr);
  const TaskTokenizer copy = original;  // NOLINT(performance-unnecessary-copy-initialization): the copy is the point
  EXPECT_EQ(&copy.spec(), &original.spec());
}

}  // namespace
}  // namespace gato::tokenizer
