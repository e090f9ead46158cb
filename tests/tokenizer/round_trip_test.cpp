// tokens(decode(tokens(x))) == tokens(x) for random tasks and values, and choosing the same action token by token.
#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "gato/core/error.h"
#include "gato/tokenizer/numbers.h"
#include "gato/tokenizer/sequence.h"
#include "small_model.h"
#include "specs.h"

namespace gato::tokenizer {
namespace {

using episode::FieldSpec;
using episode::FieldValue;
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

FieldSpec random_field(Rng& rng, const std::string& name, bool is_action) {
  const std::vector<std::vector<int64_t>> shapes = {{}, {1}, {3}, {2, 3}, {7}};
  const std::vector<int64_t> shape = shapes[static_cast<size_t>(rng.below(5))];
  switch (rng.below(is_action ? 3 : 4)) {
    case 0:
      return text_field(name);
    case 1:
      return discrete_field(name, shape, 1 + rng.below(rng.below(2) == 0 ? 4 : 1024));
    case 2: {
      const auto low = static_cast<float>(rng.uniform(-10, 9));
      return is_action ? continuous_field(name, shape, low, low + static_cast<float>(rng.uniform(0.001, 20)))
                       : continuous_field(name, shape);
    }
    default:
      return rng.below(2) == 0 ? image_field(name, 16 + rng.below(20), 16 + rng.below(20)) : image_field(name, 0, 0);
  }
}

/// Names come in random order, so that the canonical order differs from the order of the fields.
std::vector<FieldSpec> random_fields(Rng& rng, int64_t count, bool is_action) {
  std::vector<std::string> names = {"d", "a", "c", "b"};
  rng.shuffle(names);
  std::vector<FieldSpec> fields;
  for (int64_t i = 0; i < count; ++i) fields.push_back(random_field(rng, names[static_cast<size_t>(i)], is_action));
  return fields;
}

float random_number(Rng& rng) {
  const double magnitude = std::exp(rng.uniform(-12, 8));
  return static_cast<float>(rng.below(8) == 0 ? 0 : rng.below(2) == 0 ? magnitude : -magnitude);
}

FieldValue random_value(Rng& rng, const FieldSpec& field, bool is_action) {
  FieldValue value;
  switch (field.modality) {
    case Modality::kText:
      value.text = test::random_text(rng, 12);
      break;
    case Modality::kImage:
      value.image = test::make_image(static_cast<int32_t>(field.shape[0] > 0 ? field.shape[0] : 1 + rng.below(40)),
                                     static_cast<int32_t>(field.shape[1] > 0 ? field.shape[1] : 1 + rng.below(40)),
                                     rng.next_u32());
      break;
    case Modality::kDiscrete:
      for (int64_t i = 0; i < field.num_elements(); ++i)
        value.discrete.push_back(static_cast<int32_t>(rng.below(field.num_values)));
      break;
    case Modality::kContinuous:
      for (int64_t i = 0; i < field.num_elements(); ++i) {
        value.continuous.push_back(is_action
                                       ? static_cast<float>(rng.uniform(field.low_of(i) - 0.1, field.high_of(i) + 0.1))
                                       : random_number(rng));
      }
      break;
  }
  return value;
}

StepValues random_values(Rng& rng, const std::vector<FieldSpec>& fields, bool is_action) {
  StepValues values;
  for (const FieldSpec& field : fields) values.push_back(random_value(rng, field, is_action));
  return values;
}

struct Recorded {
  StepValues observation, action;
};

/// `decoded` with the images of `original`, which tokens do not give back.
StepValues with_images(StepValues decoded, const StepValues& original, const std::vector<FieldSpec>& fields) {
  for (size_t i = 0; i < fields.size(); ++i) {
    if (fields[i].modality == Modality::kImage) decoded[i].image = original[i].image;
  }
  return decoded;
}

void expect_same_but_for_rounding(const StepValues& decoded, const StepValues& original,
                                  const std::vector<FieldSpec>& fields, bool is_action) {
  ASSERT_EQ(decoded.size(), fields.size());
  for (size_t i = 0; i < fields.size(); ++i) {
    EXPECT_EQ(decoded[i].text, original[i].text);
    EXPECT_EQ(decoded[i].discrete, original[i].discrete);
    ASSERT_EQ(decoded[i].continuous.size(), original[i].continuous.size());
    for (size_t e = 0; e < original[i].continuous.size(); ++e) {
      const float low = fields[i].low_of(static_cast<int64_t>(e)), high = fields[i].high_of(static_cast<int64_t>(e));
      const float value = original[i].continuous[e], back = decoded[i].continuous[e];
      const double bound =
          is_action ? (static_cast<double>(high) - low) / 2048 * 1.01 : 1.2e-4 + 0.0105 * std::abs(value);
      EXPECT_NEAR(back, is_action ? std::clamp(value, low, high) : std::clamp(value, -256.0f, 256.0f), bound);
    }
  }
}

/// Chooses the action of a recorded step token by token, as an evaluation does.
void replay_action(const TaskTokenizer& tokenizer, const StepView& step, const TokenSequence& recorded,
                   const StepValues& action) {
  TokenSequence fed;
  tokenizer.append_observation(step, fed);
  std::vector<int32_t> chosen;
  while (const auto token = tokenizer.next_action_token(chosen, 1000)) {
    ASSERT_LT(fed.size(), recorded.size());
    const int32_t id = recorded.ids[static_cast<size_t>(fed.size())];
    ASSERT_GE(id, token->first_id);
    ASSERT_LT(id, token->first_id + token->num_ids);
    ASSERT_EQ(tokenizer.spec().action[static_cast<size_t>(token->field)].modality, token->modality);
    if (token->modality == Modality::kContinuous) {
      ASSERT_EQ(tokenizer.action_number(*token, id - tokenizer.vocabulary().first_bin()),
                action[static_cast<size_t>(token->field)].continuous[static_cast<size_t>(token->element)]);
    }
    tokenizer.append_action_token(*token, id, fed);
    chosen.push_back(id);
  }
  EXPECT_EQ(fed.ids, recorded.ids);
  EXPECT_EQ(fed.targets, recorded.targets);
  EXPECT_EQ(fed.kinds, recorded.kinds);
  EXPECT_EQ(fed.is_action, recorded.is_action);
  EXPECT_EQ(fed.local_positions, recorded.local_positions);
  EXPECT_EQ(fed.patches, recorded.patches);
  EXPECT_EQ(fed.loss_weights, std::vector<float>(fed.ids.size(), 0));
  EXPECT_EQ(tokenizer.decode_action(chosen, 1000), action);
  EXPECT_EQ(tokenizer.decode_action(chosen), action);
}

class RoundTripTest : public testing::TestWithParam<bool> {};

TEST_P(RoundTripTest, RandomTasks) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(cat("seed ", seed));
    Rng rng(mix_seed(77, {seed}));
    const TaskSpec spec =
        make_task(random_fields(rng, rng.below(5), false), random_fields(rng, 1 + rng.below(4), true));
    const TaskTokenizer tokenizer(spec, Vocabulary(1024, GetParam()), &small_tokenizer());
    const LossWeights weights{2, 0.5f, 0.25f};
    std::vector<Recorded> steps(static_cast<size_t>(1 + rng.below(4)));
    TokenSequence tokens;
    std::vector<TokenSequence> single(steps.size());
    for (size_t s = 0; s < steps.size(); ++s) {
      steps[s] = {random_values(rng, spec.observation, false), random_values(rng, spec.action, true)};
      StepStorage storage;
      const StepView view = storage.view(spec, &small_tokenizer(), steps[s].observation, steps[s].action);
      tokenizer.append_step(view, weights, tokens);
      tokenizer.append_step(view, weights, single[s]);
      ASSERT_EQ(single[s].size(), tokenizer.count_tokens(view));
    }
    const auto decoded = tokenizer.decode_steps(tokens);
    ASSERT_EQ(decoded.size(), steps.size());
    TokenSequence again;
    for (size_t s = 0; s < steps.size(); ++s) {
      expect_same_but_for_rounding(decoded[s].observation, steps[s].observation, spec.observation, false);
      expect_same_but_for_rounding(decoded[s].action, steps[s].action, spec.action, true);
      const StepValues observation = with_images(decoded[s].observation, steps[s].observation, spec.observation);
      StepStorage storage;
      const StepView view = storage.view(spec, &small_tokenizer(), observation, decoded[s].action);
      tokenizer.append_step(view, weights, again);
      replay_action(tokenizer, view, single[s], decoded[s].action);
    }
    ASSERT_EQ(again, tokens);
  }
}

INSTANTIATE_TEST_SUITE_P(DiscreteIds, RoundTripTest, testing::Values(false, true),
                         [](const auto& test) { return test.param ? "Private" : "Shared"; });

TokenSequence tokens_of(const TaskTokenizer& tokenizer, const StepValues& observation, const StepValues& action) {
  StepStorage storage;
  TokenSequence out;
  tokenizer.append_step(storage.view(tokenizer.spec(), &small_tokenizer(), observation, action), {}, out);
  return out;
}

const Vocabulary kVocabulary(1024, false);

TEST(DecodeStepsTest, PassesOverAnUnfinishedStepAndPadding) {
  const TaskTokenizer tokenizer(make_task({text_field("t"), continuous_field("x", {2})}, {text_field("say")}),
                                kVocabulary, &small_tokenizer());
  const TokenSequence step =
      tokens_of(tokenizer, {text_value("In the beginning"), continuous_value({1, 2})}, {text_value("God")});
  for (int64_t cut = 0; cut <= step.size(); ++cut) {
    TokenSequence two = step;
    TokenSequence half = step;
    half.ids.resize(static_cast<size_t>(cut));
    two.ids.insert(two.ids.end(), half.ids.begin(), half.ids.end());
    two.kinds.insert(two.kinds.end(), step.kinds.begin(), step.kinds.begin() + cut);
    two.is_action.insert(two.is_action.end(), step.is_action.begin(), step.is_action.begin() + cut);
    EXPECT_EQ(tokenizer.decode_steps(two).size(), cut == step.size() ? 2u : 1u) << cut;
    two.ids.resize(two.ids.size() + 5, kNoId);
    two.kinds.resize(two.kinds.size() + 5, TokenKind::kPadding);
    two.is_action.resize(two.is_action.size() + 5, 0);
    EXPECT_EQ(tokenizer.decode_steps(two).size(), cut == step.size() ? 2u : 1u) << cut;
  }
}

TEST(DecodeStepsTest, RefusesSequencesOfAnotherTask) {
  const TaskTokenizer tokenizer(make_task({continuous_field("x", {2})}, {discrete_field("a", {}, 4)}), kVocabulary,
                                &small_tokenizer());
  const TokenSequence good = tokens_of(tokenizer, {continuous_value({1, 2})}, {discrete_value({3})});
  for (size_t i = 0; i < good.ids.size(); ++i) {
    TokenSequence bad = good;
    bad.kinds[i] = TokenKind::kText;
    EXPECT_THROW(static_cast<void>(tokenizer.decode_steps(bad)), DataError) << i;
    bad = good;
    bad.ids[i] = -7;
    EXPECT_THROW(static_cast<void>(tokenizer.decode_steps(bad)), DataError) << i;
    bad = good;
    bad.ids[i] = 1 << 20;
    EXPECT_THROW(static_cast<void>(tokenizer.decode_steps(bad)), DataError) << i;
  }
  TokenSequence out_of_range = good;
  out_of_range.ids[3] = 4;  // the field has values 0..3
  EXPECT_THROW(static_cast<void>(tokenizer.decode_steps(out_of_range)), DataError);
  TokenSequence uneven = good;
  uneven.kinds.pop_back();
  EXPECT_THROW(static_cast<void>(tokenizer.decode_steps(uneven)), ContractError);
}

TEST(NextActionTokenTest, LeadsThroughTheFieldsInCanonicalOrder) {
  const TaskTokenizer tokenizer(
      make_task({}, {discrete_field("z", {2}, 7), continuous_field("arm", {1}, 0, 1), text_field("say")}), kVocabulary,
      &small_tokenizer());
  std::vector<int32_t> chosen;
  const auto expect_next = [&](int field, int64_t element, int32_t first, int32_t count, int32_t choose) {
    const auto token = tokenizer.next_action_token(chosen, 10);
    ASSERT_TRUE(token.has_value());
    EXPECT_EQ(token->field, field);
    EXPECT_EQ(token->element, element);
    EXPECT_EQ(token->first_id, first);
    EXPECT_EQ(token->num_ids, count);
    chosen.push_back(choose);
  };
  expect_next(2, 0, 0, 1024, 300);
  expect_next(2, 1, 0, 1024, 301);
  expect_next(2, 2, 0, 1024, small_tokenizer().end_id());
  expect_next(1, 0, 1024, 1024, 1024 + 1023);
  expect_next(0, 0, 0, 7, 1);
  expect_next(0, 1, 0, 7, 6);
  EXPECT_FALSE(tokenizer.next_action_token(chosen, 10).has_value());
  const StepValues action = tokenizer.decode_action(chosen);
  EXPECT_EQ(action[0].discrete, (std::vector<int32_t>{1, 6}));
  EXPECT_NEAR(action[1].continuous.at(0), 1, 1e-3);
  EXPECT_EQ(action[2].text, small_tokenizer().decode(std::vector<int32_t>{300, 301}));
  chosen.push_back(5);
  EXPECT_THROW(static_cast<void>(tokenizer.next_action_token(chosen, 10)), ContractError);
}

// The id of `</s>` is also the shared id of a discrete value: a text that was stopped by its limit must not swallow it.
TEST(NextActionTokenTest, TextsStopAtTheirLimit) {
  const TaskTokenizer tokenizer(make_task({}, {text_field("say"), discrete_field("z", {}, 7)}), kVocabulary,
                                &small_tokenizer());
  const std::vector<int32_t> chosen = {300, 301, 1};
  EXPECT_EQ(tokenizer.next_action_token(std::span(chosen).first(2), 2)->field, 1);
  EXPECT_FALSE(tokenizer.next_action_token(chosen, 2).has_value());
  const StepValues action = tokenizer.decode_action(chosen, 2);
  EXPECT_EQ(action[0].text, small_tokenizer().decode(std::vector<int32_t>{300, 301}));
  EXPECT_EQ(action[1].discrete, std::vector<int32_t>{1});
  EXPECT_EQ(tokenizer.next_action_token({}, 0)->field, 1);
}

TEST(DecodeActionTest, AcceptsATextWithoutEndOnlyWhereNothingFollows) {
  const TaskTokenizer alone(make_task({}, {text_field("say")}), kVocabulary, &small_tokenizer());
  EXPECT_EQ(alone.decode_action(small_tokenizer().encode("Adam"))[0].text, "Adam");
  EXPECT_EQ(alone.decode_action({})[0].text, "");
  const TaskTokenizer two(make_task({}, {text_field("say"), discrete_field("z", {}, 7)}), kVocabulary,
                          &small_tokenizer());
  EXPECT_THROW(static_cast<void>(two.decode_action(std::vector<int32_t>{300, 301})), DataError);
}

TEST(DecodeActionTest, RefusesIdsAndLengthsThatCannotBe) {
  const TaskTokenizer tokenizer(make_task({}, {discrete_field("z", {}, 7), continuous_field("u", {}, -1, 1)}),
                                kVocabulary, nullptr);
  const auto decode = [&](std::vector<int32_t> chosen) { return tokenizer.decode_action(chosen); };
  EXPECT_NO_THROW(decode({1024, 6}));
  EXPECT_THROW(decode({}), DataError);
  EXPECT_THROW(decode({1024}), DataError);
  EXPECT_THROW(decode({1024, 6, 6}), DataError);
  EXPECT_THROW(decode({1024, 7}), DataError);
  EXPECT_THROW(decode({1024, -1}), DataError);
  EXPECT_THROW(decode({1023, 6}), DataError);
  EXPECT_THROW(decode({2048, 6}), DataError);
}

TEST(AppendActionTokenTest, RefusesIdsThatTheFieldDoesNotAllow) {
  const TaskTokenizer tokenizer(make_task({}, {discrete_field("z", {}, 7)}), kVocabulary, nullptr);
  const auto token = tokenizer.next_action_token({}, 1);
  TokenSequence out;
  EXPECT_THROW(tokenizer.append_action_token(*token, 7, out), ContractError);
  EXPECT_THROW(tokenizer.append_action_token(*token, -1, out), ContractError);
  tokenizer.append_action_token(*token, 6, out);
  EXPECT_EQ(out.local_positions, std::vector<int16_t>{kActionPosition});
  EXPECT_THROW(static_cast<void>(tokenizer.action_number(*token, 5)), ContractError);
}

}  // namespace
}  // namespace gato::tokenizer
