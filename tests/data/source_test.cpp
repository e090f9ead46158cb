#include "gato/data/source.h"

#include <gtest/gtest.h>

#include "support/synthetic_data.h"

namespace gato::data {
namespace {

using episode::StepValues;
using test::shared_data;
using tokenizer::LossWeights;
using tokenizer::TokenSequence;

StepValues values_at(const std::vector<episode::FieldSpec>& fields, const std::vector<episode::Column>& columns,
                     int64_t step) {
  StepValues values;
  for (size_t f = 0; f < columns.size(); ++f) values.push_back(value_at(columns[f], fields[f], step));
  return values;
}

/// A window through the decoded episode, step by step: what Source::append must give.
TokenSequence reference(const Source& source, const Window& window, const LossWeights& weights) {
  const episode::TaskSpec& spec = source.spec();
  TokenSequence out;
  if (source.tokenizer().is_document()) {
    const std::vector<int32_t> ids = shared_data().text().encode(source.read(window.episode).action[0].text[0]);
    const std::vector<uint32_t> text(ids.begin(), ids.end());
    source.tokenizer().append_document(text, window.first, window.count, weights, out);
    return out;
  }
  const episode::Episode read = source.read(window.episode, window.first, window.count);
  tokenizer::StepStorage storage;
  for (int64_t step = 0; step < window.count; ++step) {
    const StepValues observation = values_at(spec.observation, read.observation, step);
    const StepValues action = values_at(spec.action, read.action, step);
    const StepValues label = values_at(spec.action, read.label, step);
    source.tokenizer().append_step(storage.view(spec, &shared_data().text(), observation, action, label), weights, out);
  }
  return out;
}

TEST(SourceWindowTest, WindowsGiveTheTokensOfTheirStepsOneByOne) {
  const auto sources =
      open_sources(shared_data().config(), shared_data().vocabulary(), &shared_data().text(), Split::kTraining);
  ASSERT_EQ(sources.size(), 4u);
  Rng rng(11);
  for (const auto& source : sources) {
    for (int trial = 0; trial < 60; ++trial) {
      Window window;
      window.episode = rng.below(source->num_episodes());
      window.first = rng.below(source->length(window.episode));
      window.count = 1 + rng.below(std::min<int64_t>(12, source->length(window.episode) - window.first));
      const LossWeights weights{1.5f, trial % 2 == 0 ? 0.0f : 0.25f, trial % 3 == 0 ? 0.5f : 0.0f};
      TokenSequence out;
      out.ids.push_back(7);  // Windows go behind what is there.
      out.targets.push_back(7);
      out.loss_weights.push_back(0);
      out.kinds.push_back(tokenizer::TokenKind::kText);
      out.is_action.push_back(0);
      out.local_positions.push_back(-1);
      TokenSequence expected = out;
      source->append(window, weights, out);
      const TokenSequence tail = reference(*source, window, weights);
      EXPECT_EQ(source->window_tokens(window), tail.size()) << source->id();
      expected.ids.insert(expected.ids.end(), tail.ids.begin(), tail.ids.end());
      expected.targets.insert(expected.targets.end(), tail.targets.begin(), tail.targets.end());
      expected.loss_weights.insert(expected.loss_weights.end(), tail.loss_weights.begin(), tail.loss_weights.end());
      expected.kinds.insert(expected.kinds.end(), tail.kinds.begin(), tail.kinds.end());
      expected.is_action.insert(expected.is_action.end(), tail.is_action.begin(), tail.is_action.end());
      expected.local_positions.insert(expected.local_positions.end(), tail.local_positions.begin(),
                                      tail.local_positions.end());
      expected.patches = tail.patches;
      expected.patch_positions = tail.patch_positions;
      ASSERT_TRUE(out == expected) << source->id() << ", window " << window.episode << " " << window.first << " "
                                   << window.count;
    }
  }
}

TEST(SourceWindowTest, CountsFromTheIndexAreThoseOfTheTokens) {
  const auto sources =
      open_sources(shared_data().config(), shared_data().vocabulary(), &shared_data().text(), Split::kTraining);
  for (const auto& source : sources) {
    int64_t tokens = 0, labels = 0, longest = 0, steps = 0;
    for (int64_t e = 0; e < source->num_episodes(); ++e) {
      const int64_t length = source->length(e);
      TokenSequence out;
      source->append({e, 0, length}, {1, 0, 0}, out);
      tokens += out.size();
      labels += std::count(out.is_action.begin(), out.is_action.end(), 1);
      for (int64_t s = 0; s < length; ++s) longest = std::max(longest, source->window_tokens({e, s, 1}));
      steps += length;
    }
    EXPECT_EQ(source->total_tokens(), tokens) << source->id();
    EXPECT_EQ(source->max_step_tokens(), longest) << source->id();
    // The first token of a document can never be predicted.
    const bool document = source->tokenizer().is_document();
    EXPECT_EQ(source->total_labels(), document ? tokens - source->num_episodes() : labels) << source->id();
    EXPECT_GT(steps, 0);
  }
}

TEST(SourceOpenTest, BothSplitsAreOpenedAtOnceAndFiltersApplyToBoth) {
  DataConfig config = shared_data().config();
  const std::vector<Path> shards = find_shards(config);
  const OpenedSources all = open_splits(shards, config, shared_data().vocabulary(), &shared_data().text());
  EXPECT_EQ(all.num_episodes, 80 + 20 + 60 + 40);
  EXPECT_TRUE(all.filters.empty());
  config.filters = {{.tasks = "control/*", .top_quantile = 0.25}};
  const OpenedSources some = open_splits(shards, config, shared_data().vocabulary(), &shared_data().text());
  ASSERT_EQ(some.filters.size(), 1u);
  EXPECT_EQ(some.filters[0].source, "control-arm:control/arm");
  EXPECT_EQ(some.filters[0].episodes, 80);
  EXPECT_EQ(some.filters[0].kept_episodes, 20);
  int64_t kept = 0;
  for (const auto* side : {&some.training, &some.validation}) {
    for (const auto& source : *side) {
      if (source->spec().id != "control/arm") continue;
      kept += source->num_episodes();
      for (int64_t e = 0; e < source->num_episodes(); ++e) {
        EXPECT_GE(source->read(e).total_return(), *some.filters[0].threshold - 1e-4);
      }
    }
  }
  EXPECT_EQ(kept, 20);
}

}  // namespace
}  // namespace gato::data
