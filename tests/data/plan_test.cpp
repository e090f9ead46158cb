#include "gato/data/plan.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <map>
#include <set>

#include "support/plan_data.h"

namespace gato::data {
namespace {

using test::shared_data;

TEST(WindowTest, EveryEpochUsesEachStepOnceWhateverTheLengths) {
  for (const auto& [low, high] :
       std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {2, 2}, {7, 7}, {1, 4}, {3, 5}, {4, 9}, {50, 50}}) {
    for (int64_t length = 1; length <= 60; ++length) {
      for (uint64_t key = 0; key < 5; ++key) {
        const int64_t n = num_windows(length, low, high);
        int64_t next = 0;
        for (int64_t i = 0; i < n; ++i) {
          const auto [first, count] = window_at(length, low, high, key, i);
          ASSERT_EQ(first, next) << "length " << length << " [" << low << ", " << high << "] window " << i;
          ASSERT_GE(count, 1);
          ASSERT_LE(count, high);
          next = first + count;
        }
        ASSERT_EQ(next, length) << "length " << length << " [" << low << ", " << high << "]";
      }
    }
  }
}

TEST(WindowTest, EpochsCutAtOtherOffsets) {
  for (const auto& [length, low, high] :
       std::vector<std::array<int64_t, 3>>{{40, 8, 8}, {41, 8, 8}, {47, 8, 8}, {40, 2, 6}}) {
    std::set<int64_t> second_begins;
    for (uint64_t key = 0; key < 200; ++key) second_begins.insert(window_at(length, low, high, key, 1).first);
    EXPECT_GE(second_begins.size(), 2u) << length << " [" << low << ", " << high << "]";
  }
}

/// Steps of every window in blocks [0, blocks), by source and epoch, with how often each was used.
struct Usage {
  std::map<std::pair<int32_t, uint64_t>, std::map<std::pair<int64_t, int64_t>, int>> steps;
  std::map<int32_t, int64_t> tokens;
  int64_t planned = 0, dropped = 0, filled = 0;
};

Usage use_blocks(const RowPlan& plan, int64_t blocks) {
  Usage usage;
  for (int64_t b = 0; b < blocks; ++b) {
    const auto block = plan.block(b);
    usage.planned += block->planned_tokens;
    usage.dropped += block->dropped_tokens;
    for (const PlannedRow& row : block->rows) {
      for (const PlannedSequence& sequence : row.sequences) {
        usage.filled += sequence.tokens;
        usage.tokens[sequence.source] += sequence.tokens;
        const uint64_t epoch = sequence.epoch;
        for (int64_t s = 0; s < sequence.window.count; ++s) {
          ++usage.steps[{sequence.source, epoch}][{sequence.window.episode, sequence.window.first + s}];
        }
      }
    }
  }
  return usage;
}

TEST(RowPlanTest, SourcesAreUsedWithoutReplacementEpochByEpoch) {
  const auto plan = shared_data().plan(shared_data().config());
  const Usage usage = use_blocks(*plan, 20);
  int64_t whole_epochs = 0;
  for (const auto& [key, steps] : usage.steps) {
    const auto& [source, epoch] = key;
    for (const auto& [step, uses] : steps) ASSERT_EQ(uses, 1) << "source " << source << " epoch " << epoch;
    int64_t all = 0;
    for (int64_t e = 0; e < plan->sources()[static_cast<size_t>(source)]->num_episodes(); ++e) {
      all += plan->sources()[static_cast<size_t>(source)]->length(e);
    }
    // What packing dropped is missing, nothing else.
    if (usage.steps.count({source, epoch + 1}) != 0) {
      ++whole_epochs;
      EXPECT_GE(static_cast<double>(steps.size()), 0.9 * static_cast<double>(all))
          << "source " << source << " epoch " << epoch;
    }
  }
  EXPECT_GE(whole_epochs, 4);
}

TEST(RowPlanTest, TokenSharesAreAsAskedAndRowsAreFull) {
  const auto plan = shared_data().plan(shared_data().config(256));
  constexpr int64_t kBlocks = 100;
  const Usage usage = use_blocks(*plan, kBlocks);
  for (const SourceShare& share : plan->shares(0)) {
    for (size_t i = 0; i < plan->sources().size(); ++i) {
      if (plan->sources()[i]->id() != share.source) continue;
      const double realised =
          static_cast<double>(usage.tokens.at(static_cast<int32_t>(i))) / static_cast<double>(usage.filled);
      EXPECT_NEAR(realised, share.asked_share, 0.005) << share.source;
    }
  }
  const auto capacity = static_cast<double>(kBlocks * kBlockRows * 256);
  EXPECT_GE(static_cast<double>(usage.filled), 0.98 * capacity);
  EXPECT_LE(static_cast<double>(usage.dropped), 0.01 * static_cast<double>(usage.planned));
}

TEST(RowPlanTest, LaterPhaseLeavesOldRowsAsTheyWere) {
  DataConfig config = shared_data().config();
  const auto before = shared_data().plan(config);
  config.schedule.push_back({3 * kBlockRows, {{.tasks = "control/*", .share = 1, .steps = {4, 4, false}}}});
  const auto after = shared_data().plan(config);
  const RowBuilder old_rows(before, true), new_rows(after, true);
  EXPECT_EQ(old_rows.build(kBlockRows, 2 * kBlockRows), new_rows.build(kBlockRows, 2 * kBlockRows));
  const auto block = after->block(3);
  for (const PlannedRow& row : block->rows) {
    for (const PlannedSequence& sequence : row.sequences) {
      EXPECT_EQ(after->sources()[static_cast<size_t>(sequence.source)]->spec().id, "control/arm");
      EXPECT_LE(sequence.window.count, 4);
    }
  }
}

TEST(RowPlanTest, SeedDecidesTheOrder) {
  const DataConfig config = shared_data().config();
  const RowBuilder one(shared_data().plan(config, 1), true), same(shared_data().plan(config, 1), true),
      other(shared_data().plan(config, 2), true);
  EXPECT_EQ(one.build(5, 3), same.build(5, 3));
  EXPECT_NE(one.build(5, 3), other.build(5, 3));
}

TEST(RowPlanTest, PromptsComeFromOtherEpisodesOfTheSameAgentWithoutLoss) {
  DataConfig config = shared_data().config(256);
  config.schedule = {{0, {{.tasks = "control/*", .share = 1, .steps = {1, 1, true}, .prompt_probability = 0.25}}}};
  const auto plan = shared_data().plan(config);
  const Source& source = *plan->sources()[0];
  int64_t sequences = 0, prompts = 0, from_end = 0;
  for (int64_t b = 0; b < 8; ++b) {
    for (const PlannedRow& row : plan->block(b)->rows) {
      for (const PlannedSequence& sequence : row.sequences) {
        ++sequences;
        if (!sequence.has_prompt) continue;
        ++prompts;
        ASSERT_NE(sequence.prompt.episode, sequence.window.episode);
        ASSERT_EQ(test::agent_of(source, sequence.prompt.episode), test::agent_of(source, sequence.window.episode));
        ASSERT_LE(source.window_tokens(sequence.prompt), 128);
        ASSERT_LE(sequence.tokens, 256);
        from_end += sequence.prompt.first + sequence.prompt.count == source.length(sequence.prompt.episode) ? 1 : 0;
      }
    }
  }
  EXPECT_NEAR(static_cast<double>(prompts) / static_cast<double>(sequences), 0.25, 0.03);
  EXPECT_GE(from_end, prompts / 2 - prompts / 10);

  const RowBuilder builder(plan, true);
  for (int64_t row = 0; row < 64; ++row) {
    const Batch batch = builder.build(row, 1);
    int64_t offset = 0;
    for (const PlannedSequence& sequence : plan->block(0)->rows[static_cast<size_t>(row)].sequences) {
      const int64_t prompt_tokens = sequence.has_prompt ? source.window_tokens(sequence.prompt) : 0;
      double prompt_loss = 0, window_loss = 0;
      for (int64_t t = 0; t < sequence.tokens; ++t) {
        (t < prompt_tokens ? prompt_loss : window_loss) += batch.loss_weights[static_cast<size_t>(offset + t)];
      }
      EXPECT_EQ(prompt_loss, 0);
      EXPECT_GT(window_loss, 0);
      offset += sequence.tokens;
    }
  }
}

TEST(RowPlanTest, LaterPhaseWithPromptsFillsItsRows) {
  DataConfig config = shared_data().config(256);
  for (const int64_t first_block : {1, 3}) {
    config.schedule.resize(1);
    config.schedule.push_back(
        {first_block * kBlockRows,
         {{.tasks = "control/*", .share = 1, .steps = {1, 1, true}, .prompt_probability = 0.25}}});
    const auto plan = shared_data().plan(config);
    EXPECT_GT(plan->block(first_block)->planned_tokens, kBlockRows * 256 / 2) << "phase from block " << first_block;
  }
}

TEST(RowPlanTest, LabelWeightsAreThePowerOfTokensPerLabel) {
  const auto plan = shared_data().plan(shared_data().config());
  for (const SourceShare& share : plan->shares(0)) {
    const std::map<std::string, double> tokens_per_label = {{"control/arm", 5.0},  // 3 numbers, separator, action
                                                            {"game/look", 4.0}};   // 2 patches, separator, action
    const auto expected = tokens_per_label.find(share.task);
    if (expected != tokens_per_label.end()) {
      EXPECT_NEAR(share.label_weight, std::sqrt(expected->second), 1e-9) << share.task;
    }
  }
}

TEST(RowPlanTest, ErrorsNameTheTaskAndWhatToDo) {
  DataConfig config = shared_data().config();
  config.schedule[0].mixture[0].tasks = "kontrol/*";
  try {
    static_cast<void>(shared_data().plan(config));
    FAIL() << "a pattern without tasks was accepted";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("kontrol/*"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("control/arm"), std::string::npos);
  }
  config = shared_data().config();
  config.row_tokens = 8;
  config.schedule = {{0, {{.tasks = "grid/*", .share = 1}}}};
  try {
    static_cast<void>(shared_data().plan(config));
    FAIL() << "a step longer than a row was accepted";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("grid/find"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("row_tokens"), std::string::npos);
  }
}

}  // namespace
}  // namespace gato::data
