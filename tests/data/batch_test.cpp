#include "gato/data/batch.h"

#include <gtest/gtest.h>

#include <fstream>

#include "gato/core/signals.h"
#include "support/synthetic_data.h"

namespace gato::data {
namespace {

using test::shared_data;
using tokenizer::TokenKind;

Batch joined(const std::vector<Batch>& parts) {
  Batch all = parts[0];
  const auto extend = [](auto& to, const auto& from) { to.insert(to.end(), from.begin(), from.end()); };
  for (size_t i = 1; i < parts.size(); ++i) {
    const Batch& part = parts[i];
    const auto base = static_cast<int64_t>(all.ids.size());
    extend(all.ids, part.ids);
    extend(all.targets, part.targets);
    extend(all.loss_weights, part.loss_weights);
    extend(all.kinds, part.kinds);
    extend(all.sequence_starts, part.sequence_starts);
    extend(all.local_positions, part.local_positions);
    extend(all.sources, part.sources);
    extend(all.patches, part.patches);
    extend(all.patch_rows, part.patch_rows);
    extend(all.patch_columns, part.patch_columns);
    for (const int64_t index : part.patch_index) all.patch_index.push_back(base + index);
    all.rows += part.rows;
    all.tokens += part.tokens;
    all.dropped_tokens += part.dropped_tokens;
    all.loss_weight_sum = 0;  // summed in another order
  }
  all.loss_weight_sum = 0;
  return all;
}

TEST(RowsOfRankTest, EveryRowHasOneOwner) {
  for (const int world : {1, 2, 3, 8}) {
    int64_t next = 100;
    for (int rank = 0; rank < world; ++rank) {
      const RowRange range = rows_of_rank(100, 24, rank, world);
      EXPECT_EQ(range.first, next);
      next += range.count;
    }
    EXPECT_EQ(next, 124);
  }
}

TEST(LoaderTest, RowsAreTheSameForAnyNumberOfProcessesAndThreads) {
  const DataConfig config = shared_data().config();
  const auto builder = std::make_shared<const RowBuilder>(shared_data().plan(config), true);
  const Batch expected = joined({builder->build(240, 24)});
  for (const int world : {1, 2, 3, 8}) {
    for (const int threads : {1, 3}) {
      std::vector<Batch> parts;
      for (int rank = 0; rank < world; ++rank) {
        // Every process opens the data on its own; the tenth batch of a run of 24 rows per step.
        const auto own = std::make_shared<const RowBuilder>(shared_data().plan(config), true);
        Loader loader(own, 0, 24, rank, world, threads, 4);
        for (int n = 0; n < 10; ++n) static_cast<void>(loader.next());
        parts.push_back(loader.next());
      }
      Batch all = joined(parts);
      all.dropped_tokens = expected.dropped_tokens;
      EXPECT_TRUE(all == expected) << world << " processes, " << threads << " threads";
    }
  }
}

TEST(LoaderTest, ResumedLoaderGoesOnWhereTheOtherStopped) {
  const auto builder = std::make_shared<const RowBuilder>(shared_data().plan(shared_data().config()), true);
  Loader whole(builder, 0, 6, 0, 1, 2, 3);
  for (int n = 0; n < 7; ++n) static_cast<void>(whole.next());
  Loader resumed(builder, 7 * 6, 6, 0, 1, 1, 2);
  for (int n = 0; n < 5; ++n) EXPECT_TRUE(whole.next() == resumed.next()) << "batch " << n;
}

TEST(LoaderTest, StopRequestEndsTheWait) {
  const auto builder = std::make_shared<const RowBuilder>(shared_data().plan(shared_data().config()), true);
  Loader loader(builder, 0, 6, 0, 1, 1, 1);
  static_cast<void>(loader.next());
  request_stop();
  // What is ready may still be given; the wait for more must end.
  EXPECT_THROW(
      {
        for (int n = 0; n < 10000; ++n) static_cast<void>(loader.next());
      },
      Interrupted);
  clear_signal_flags();
}

TEST(RowBuilderTest, ArraysDescribeTheSameRow) {
  const auto plan = shared_data().plan(shared_data().config());
  const RowBuilder builder(plan, true);
  const Batch batch = builder.build(0, 64);
  ASSERT_EQ(batch.ids.size(), 64u * 128u);
  size_t patch = 0;
  double weights = 0;
  for (size_t i = 0; i < batch.ids.size(); ++i) {
    const auto t = static_cast<int32_t>(i % 128);
    const int32_t start = batch.sequence_starts[i];
    ASSERT_LE(start, t);
    ASSERT_TRUE(start == t || batch.sequence_starts[i - 1] == start) << "sequences are runs";
    const auto kind = static_cast<TokenKind>(batch.kinds[i]);
    if (kind == TokenKind::kPadding) {
      ASSERT_EQ(start, t);
      ASSERT_EQ(batch.ids[i], -1);
      ASSERT_EQ(batch.sources[i], -1);
      ASSERT_EQ(batch.loss_weights[i], 0);
    } else if (kind == TokenKind::kImage) {
      ASSERT_EQ(batch.patch_index[patch], static_cast<int64_t>(i));
      ASSERT_GE(batch.patch_rows[patch], 0);
      ASSERT_LT(batch.patch_rows[patch], 128);
      ASSERT_LT(batch.patch_columns[patch], 128);
      ++patch;
      ASSERT_EQ(batch.ids[i], -1);
      ASSERT_EQ(batch.loss_weights[i], 0);
    } else {
      ASSERT_GE(batch.ids[i], 0);
      ASSERT_LT(batch.ids[i], shared_data().vocabulary().size());
    }
    if (batch.loss_weights[i] > 0) {
      ASSERT_NE(start, t) << "the first token of a sequence has nothing to be predicted from";
      ASSERT_GE(batch.targets[i], 0);
    } else {
      ASSERT_EQ(batch.targets[i], -1);
    }
    weights += static_cast<double>(batch.loss_weights[i]);
  }
  EXPECT_EQ(batch.patches.size(), patch * tokenizer::kPatchBytes);
  EXPECT_EQ(batch.patch_index.size(), patch);
  EXPECT_NEAR(batch.loss_weight_sum, weights, 1e-6);
  EXPECT_GT(patch, 0u);
}

TEST(RowBuilderTest, ExecutedActionsAreInputsAndLabelsAreTargets) {
  DataConfig config = shared_data().config();
  config.schedule = {{0, {{.tasks = "control/*", .share = 1}}}};
  const auto plan = shared_data().plan(config);
  const Batch batch = RowBuilder(plan, true).build(0, 1);
  const Source& source = *plan->sources()[0];
  const int32_t first_bin = shared_data().vocabulary().first_bin();
  int64_t offset = 0, different = 0;
  for (const PlannedSequence& sequence : plan->block(0)->rows[0].sequences) {
    const episode::Episode step = source.read(sequence.window.episode, sequence.window.first, 1);
    const auto at = static_cast<size_t>(offset + 4);  // three numbers, separator, action
    const auto bin = [](float value) { return std::min<int32_t>(1023, static_cast<int32_t>((value + 1) / 2 * 1024)); };
    EXPECT_NEAR(batch.ids[at] - first_bin, bin(step.action[0].continuous[0]), 1);
    EXPECT_NEAR(batch.targets[at] - first_bin, bin(step.label[0].continuous[0]), 1);
    different += batch.ids[at] != batch.targets[at] ? 1 : 0;
    offset += sequence.tokens;
  }
  EXPECT_GT(different, 10);
}

TEST(RowBuilderTest, PatchPositionsAreDrawnInTrainingAndMiddlesInValidation) {
  DataConfig config = shared_data().config();
  config.schedule = {{0, {{.tasks = "game/*", .share = 1}}}};
  const auto plan = shared_data().plan(config);
  const Batch drawn = RowBuilder(plan, true).build(0, 8), middle = RowBuilder(plan, false).build(0, 8);
  std::set<int32_t> columns(drawn.patch_columns.begin(), drawn.patch_columns.end());
  EXPECT_GT(columns.size(), 30u);
  for (size_t i = 0; i < middle.patch_columns.size(); ++i) {
    EXPECT_EQ(middle.patch_columns[i], i % 2 == 0 ? 32 : 96);  // two patches side by side
    EXPECT_EQ(middle.patch_rows[i], 64);
  }
}

TEST(SourceTest, SplitsAreDisjointAndComplete) {
  const DataConfig config = shared_data().config();
  const auto training = open_sources(config, shared_data().vocabulary(), &shared_data().text(), Split::kTraining);
  const auto validation = open_sources(config, shared_data().vocabulary(), &shared_data().text(), Split::kValidation);
  std::map<std::string, std::set<std::string>> names;
  int64_t held_out = 0;
  for (const auto& sources : {training, validation}) {
    for (const auto& source : sources) {
      for (int64_t e = 0; e < source->num_episodes(); ++e) {
        EXPECT_TRUE(names[source->spec().id].insert(source->episode_name(e)).second);
        held_out += &sources == &validation ? 1 : 0;
      }
    }
  }
  EXPECT_EQ(names["control/arm"].size(), 80u);
  EXPECT_EQ(names["text/tales"].size(), 40u);
  int64_t in_validation = 0;
  for (const auto& source : validation) in_validation += source->num_episodes();
  EXPECT_GT(in_validation, 5);
  EXPECT_LT(in_validation, 50);
}

TEST(SourceTest, MissingDataNamesTheCommandThatMakesIt) {
  DataConfig config = shared_data().config();
  config.datasets = {"/nonexistent/data"};
  try {
    static_cast<void>(find_shards(config));
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("gato-data collect"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("/nonexistent/data"), std::string::npos);
  }
}

TEST(SourceTest, MissingOrForeignTokenColumnsNameTheCommandThatMakesThem) {
  const test::SyntheticData data;
  std::vector<Path> columns;
  for (const Path& shard : find_shards(data.config())) {
    if (std::filesystem::exists(episode::token_columns_path(shard)))
      columns.push_back(episode::token_columns_path(shard));
  }
  ASSERT_GE(columns.size(), 2u);
  std::filesystem::remove(columns[0]);
  try {
    static_cast<void>(data.plan(data.config()));
    FAIL();
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find("gato-data tokenize"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find(columns[0].filename().string()), std::string::npos);
  }
}

TEST(SourceTest, DamagedShardIsNamed) {
  const test::SyntheticData data;
  const std::vector<Path> shards = find_shards(data.config());
  const auto control = std::find_if(shards.begin(), shards.end(),
                                    [](const Path& p) { return p.string().find("control") != std::string::npos; });
  ASSERT_NE(control, shards.end());
  {
    std::fstream file(*control, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(600);
    const char old = static_cast<char>(file.get());
    file.seekp(600);
    file.put(static_cast<char>(old ^ 1));
  }
  DataConfig config = data.config();
  config.schedule = {{0, {{.tasks = "control/*", .share = 1}}}};
  try {
    const RowBuilder builder(data.plan(config), true);
    static_cast<void>(builder.build(0, 64));
    FAIL() << "a flipped bit went unnoticed";
  } catch (const DataError& error) {
    EXPECT_NE(std::string(error.what()).find(control->filename().string()), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace gato::data
