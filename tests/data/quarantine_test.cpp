#include "gato/data/quarantine.h"

#include <gtest/gtest.h>

#include <fstream>

#include "gato/core/error.h"
#include "support/synthetic_data.h"

namespace gato::data {
namespace {

QuarantineEntry entry(int64_t episode, int64_t row, const std::string& id = "task#1") {
  return {.source = "set:task",
          .shard = "set-00000.gato",
          .fingerprint = "0123",
          .episode = episode,
          .id = id,
          .offset = uint64_t{65536},
          .row = row,
          .message = "set-00000.gato, offset 65536: damaged \x01\xff"};
}

TEST(QuarantineTest, ListSurvivesTheProcess) {
  const gato::test::TempFolder folder;
  const Path path = folder / "quarantine.jsonl";
  {
    Quarantine list(path, 3);
    EXPECT_TRUE(list.empty());
    EXPECT_TRUE(list.add(entry(4, 100)));
    EXPECT_FALSE(list.add(entry(4, 120))) << "row 100 holds already";
    EXPECT_TRUE(list.add(entry(4, 70))) << "an earlier row needs it as well";
    EXPECT_TRUE(list.add(entry(5, 70)));
    EXPECT_EQ(list.version(), 3u);
  }
  Quarantine again(path, 3);
  EXPECT_FALSE(again.empty());
  ASSERT_EQ(again.entries().size(), 2u);
  EXPECT_EQ(again.entries()[0].row, 70);
  EXPECT_EQ(again.entries()[0].offset, 65536u);
  EXPECT_EQ(again.entries()[0].id, "task#1");
  EXPECT_TRUE(again.holds("0123", 4, 70));
  EXPECT_FALSE(again.holds("0123", 4, 69)) << "earlier rows were made with it";
  EXPECT_FALSE(again.holds("0124", 4, 70)) << "another version of the shard";
}

TEST(QuarantineTest, ProcessesTellEachOtherWhatTheyFound) {
  const gato::test::TempFolder folder;
  const Path path = folder / "quarantine.jsonl";
  Quarantine writer(path, 5), reader(path, 5, false);
  EXPECT_TRUE(reader.add(entry(1, 10)));
  EXPECT_FALSE(std::filesystem::exists(path)) << "one process alone writes";
  EXPECT_TRUE(writer.add(entry(1, 8)));
  EXPECT_TRUE(writer.add(entry(2, 9)));
  EXPECT_EQ(reader.num_news(), 1u);

  const auto found = parse_quarantine(to_lines(writer.take_news()) + to_lines(reader.take_news()), "the processes");
  ASSERT_EQ(found.size(), 3u);
  EXPECT_TRUE(reader.merge(found));
  EXPECT_FALSE(writer.merge(found)) << "it had the earlier row already";
  const auto places = [](const Quarantine& list) {
    std::vector<std::pair<int64_t, int64_t>> all;
    for (const QuarantineEntry& one : list.entries()) all.push_back({one.episode, one.row});
    return all;
  };
  EXPECT_EQ(places(reader), places(writer));
  EXPECT_EQ(reader.num_news() + writer.num_news(), 0u) << "what others found is no news";
  EXPECT_TRUE(reader.holds("0123", 1, 8));
  EXPECT_EQ(places(Quarantine(path, 5)), places(writer));

  EXPECT_THROW(reader.merge({entry(3, 1), entry(4, 1), entry(5, 1), entry(6, 1)}), DataError) << "over the budget";
  EXPECT_THROW((void)parse_quarantine("{\"source\": 1}", "rank 3"), DataError);
}

TEST(QuarantineTest, BudgetEndsTheRunAndNamesTheList) {
  const gato::test::TempFolder folder;
  const Path path = folder / "quarantine.jsonl";
  Quarantine list(path, 2);
  list.add(entry(1, 0));
  list.add(entry(2, 0));
  const auto message_of = [](const auto& action) {
    try {
      action();
    } catch (const DataError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const std::string message = message_of([&] { list.add(entry(3, 0)); });
  EXPECT_NE(message.find("quarantine.jsonl"), std::string::npos) << message;
  EXPECT_NE(message.find("data.quarantine_budget"), std::string::npos) << message;
  EXPECT_NE(message_of([&] { Quarantine again(path, 2); }), "") << "still over the budget after a restart";
  EXPECT_EQ(message_of([&] { Quarantine again(path, 3); }), "");
  EXPECT_EQ(quarantine_budget(0.001, 100), 3);
  EXPECT_EQ(quarantine_budget(0.001, 1'000'000), 1000);
  EXPECT_EQ(quarantine_budget(0, 1'000'000), 0);
}

TEST(QuarantineTest, CutLastLineIsPassedOverAndDamageIsNot) {
  const gato::test::TempFolder folder;
  const Path path = folder / "quarantine.jsonl";
  {
    Quarantine list(path, 9);
    list.add(entry(1, 0));
    list.add(entry(2, 0));
  }
  const std::string whole = read_file(path);
  const size_t first_line = whole.find('\n') + 1;
  const auto spill = [&](std::string_view text) { std::ofstream(path, std::ios::binary) << text; };
  for (size_t length = 0; length < whole.size(); length += 3) {
    spill(std::string_view(whole).substr(0, length));
    EXPECT_EQ(Quarantine(path, 9).entries().size(), length < first_line ? 0u : 1u) << "cut to " << length;
    EXPECT_EQ(read_file(path).size(), length) << "reading changes nothing";
    Quarantine(path, 9).add(entry(7, 3));
    EXPECT_EQ(Quarantine(path, 9).entries().size(), length < first_line ? 1u : 2u) << "cut to " << length;
  }
  size_t refused = 0;
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ 4);
    spill(damaged);
    try {
      Quarantine list(path, 9);
    } catch (const DataError& error) {
      EXPECT_NE(std::string(error.what()).find("quarantine.jsonl"), std::string::npos);
      ++refused;
    }
  }
  EXPECT_GT(refused, whole.size() / 3) << "most flips break the syntax or a key";
}

// ------------------------------------------------------------------------------------------------- rows with damage

/// Control episodes long enough that a damaged block touches few of them and no index.
class DamagedData {
 public:
  static constexpr int64_t kEpisodes = 150;

  DamagedData() {
    episode::TaskSpec task = test::control_task();
    task.observation = {test::field("state", episode::Modality::kContinuous, {64})};
    episode::ShardWriter writer(folder_ / "arm-00000.gato", {"arm", "", "", "test"}, {task});
    for (int64_t e = 0; e < kEpisodes; ++e) writer.add(0, test::random_episode(task, e, false));
    writer.finish();
  }

  /// Flips a bit in the middle of the column of states, or of every block of it.
  void damage(bool everywhere = false) {
    uint64_t begin = 0, size = 0;
    {
      const episode::ShardReader reader(path());
      for (const auto& column : reader.column_sizes()) {
        if (column.name.find("state") == std::string::npos) continue;
        begin = column.offset;
        size = column.bytes;
      }
    }
    ASSERT_GT(size, 6u * 65536u);
    std::fstream file(path(), std::ios::in | std::ios::out | std::ios::binary);
    for (uint64_t offset = begin + 65536; offset < begin + size - 65536; offset += 65536) {
      if (!everywhere && offset != begin + 3 * 65536) continue;
      file.seekg(static_cast<std::streamoff>(offset));
      const char old = static_cast<char>(file.get());
      file.seekp(static_cast<std::streamoff>(offset));
      file.put(static_cast<char>(old ^ 16));
    }
  }

  [[nodiscard]] Path path() const { return folder_ / "arm-00000.gato"; }
  [[nodiscard]] Path list() const { return folder_ / "quarantine.jsonl"; }

  [[nodiscard]] std::shared_ptr<const RowPlan> plan() const {
    DataConfig config;
    config.datasets = {folder_.path().string()};
    config.row_tokens = 512;
    config.schedule = {{0, {{.tasks = "*", .share = 1, .steps = {2, 4, false}, .prompt_probability = 0.3}}}};
    return std::make_shared<const RowPlan>(
        config, open_sources(config, tokenizer::Vocabulary(1024, false), nullptr, Split::kTraining), 3);
  }

 private:
  gato::test::TempFolder folder_;
};

TEST(QuarantinedRowsTest, DamagedEpisodesBecomePaddingAndOtherRowsStay) {
  DamagedData data;
  const Batch whole = RowBuilder(data.plan(), true).build(0, 256);
  data.damage();
  auto list = std::make_shared<Quarantine>(data.list(), 30);
  const auto plan = data.plan();
  const Batch batch = RowBuilder(plan, true, list).build(0, 256);
  const std::vector<QuarantineEntry> entries = list->entries();
  ASSERT_FALSE(entries.empty());
  ASSERT_LE(entries.size(), 16u);
  for (const QuarantineEntry& found : entries) {
    EXPECT_TRUE(found.offset.has_value());
    EXPECT_EQ(*found.offset % 65536, 0u);
    EXPECT_EQ(found.shard, "arm-00000.gato");
    EXPECT_NE(found.message.find("arm-00000.gato, offset "), std::string::npos);
    EXPECT_NE(found.id.find("control/arm#"), std::string::npos);
  }
  const Source& source = *plan->sources()[0];
  const auto held = [&](int64_t episode, int64_t row) {
    const Source::Place place = source.place(episode);
    return list->holds(place.shard->reader->fingerprint(), place.episode, row);
  };
  int64_t padded_sequences = 0, same_rows = 0;
  for (int64_t row = 0; row < 256; ++row) {
    int64_t at = row * 512;
    bool any = false;
    for (const PlannedSequence& sequence :
         plan->block(row / kBlockRows)->rows[static_cast<size_t>(row % 64)].sequences) {
      const bool expected =
          held(sequence.window.episode, row) || (sequence.has_prompt && held(sequence.prompt.episode, row));
      any = any || expected;
      padded_sequences += expected ? 1 : 0;
      for (int64_t t = at; t < at + sequence.tokens; ++t) {
        const auto i = static_cast<size_t>(t);
        const bool padding = batch.kinds[i] == static_cast<uint8_t>(tokenizer::TokenKind::kPadding);
        ASSERT_EQ(padding, expected) << "row " << row << ", token " << t - row * 512;
        if (!padding) {
          ASSERT_EQ(batch.ids[i], whole.ids[i]);
          ASSERT_EQ(batch.sequence_starts[i], whole.sequence_starts[i]);
          ASSERT_EQ(batch.loss_weights[i], whole.loss_weights[i]);
        } else {
          ASSERT_EQ(batch.ids[i], -1);
          ASSERT_EQ(batch.targets[i], -1);
          ASSERT_EQ(batch.loss_weights[i], 0);
          ASSERT_EQ(batch.sources[i], -1);
          ASSERT_EQ(batch.sequence_starts[i], t - row * 512) << "padding is a sequence of its own";
        }
      }
      at += sequence.tokens;
    }
    if (!any) {
      ++same_rows;
      ASSERT_TRUE(std::equal(batch.ids.begin() + row * 512, batch.ids.begin() + (row + 1) * 512,
                             whole.ids.begin() + row * 512));
    }
  }
  EXPECT_GT(padded_sequences, 20);
  EXPECT_GT(same_rows, 20);
  EXPECT_LT(batch.tokens, whole.tokens);
}

TEST(QuarantinedRowsTest, RowsAreTheSameForAnyNumberOfThreadsAndAfterResume) {
  DamagedData data;
  data.damage();
  std::vector<Batch> expected;
  {
    auto list = std::make_shared<Quarantine>(data.list(), 30);
    const RowBuilder builder(data.plan(), true, list);
    for (int n = 0; n < 40; ++n) expected.push_back(builder.build(n * 8, 8));
  }
  for (const int threads : {1, 4}) {
    // From nothing: found again, ahead of the consumer and by several threads.
    auto fresh = std::make_shared<Quarantine>("", 30);
    Loader loader(std::make_shared<const RowBuilder>(data.plan(), true, fresh), 0, 8, 0, 1, threads, 6);
    for (int n = 0; n < 40; ++n) {
      ASSERT_TRUE(loader.next() == expected[static_cast<size_t>(n)]) << n << ", " << threads << " threads";
    }
    // Resumed in the middle with the list of the first run.
    auto recorded = std::make_shared<Quarantine>(data.list(), 30);
    Loader resumed(std::make_shared<const RowBuilder>(data.plan(), true, recorded), 8 * 17, 8, 0, 1, threads, 6);
    for (int n = 17; n < 40; ++n) {
      ASSERT_TRUE(resumed.next() == expected[static_cast<size_t>(n)]) << n << ", " << threads << " threads, resumed";
    }
  }
}

TEST(QuarantinedRowsTest, TheListDoesNotDependOnTheOrderOfRows) {
  DamagedData data;
  data.damage(true);  // so that prompts and windows of one sequence are both damaged
  auto forward = std::make_shared<Quarantine>("", 1000), backward = std::make_shared<Quarantine>("", 1000);
  const RowBuilder up(data.plan(), true, forward), down(data.plan(), true, backward);
  constexpr int64_t kRows = 96;
  for (int64_t row = 0; row < kRows; ++row) static_cast<void>(up.build(row, 1));
  for (int64_t row = kRows; row-- > 0;) static_cast<void>(down.build(row, 1));
  ASSERT_GT(forward->entries().size(), 20u);
  ASSERT_EQ(forward->entries().size(), backward->entries().size());
  for (size_t i = 0; i < forward->entries().size(); ++i) {
    EXPECT_EQ(forward->entries()[i].id, backward->entries()[i].id);
    EXPECT_EQ(forward->entries()[i].row, backward->entries()[i].row) << forward->entries()[i].id;
  }
}

TEST(QuarantinedRowsTest, TooMuchDamageEndsTheRun) {
  DamagedData data;
  data.damage(true);
  auto list = std::make_shared<Quarantine>(data.list(), 5);
  const RowBuilder builder(data.plan(), true, list);
  EXPECT_THROW(static_cast<void>(builder.build(0, 256)), DataError);
  EXPECT_THROW(static_cast<void>(RowBuilder(data.plan(), true).build(0, 256)), DataError) << "without a list";
}

TEST(QuarantinedRowsTest, DamagedTokenColumnsAreFoundToo) {
  const gato::test::TempFolder folder;
  const test::SyntheticData& synthetic = test::shared_data();
  const episode::TaskSpec task = test::text_task();
  const Path path = folder / "tales-00000.gato";
  episode::ShardWriter writer(path, {"tales", "", "", "test"}, {task});
  for (int64_t e = 0; e < 1500; ++e) writer.add(0, test::random_episode(task, e, false));
  writer.finish();
  tokenize_shard(path, synthetic.text());
  {
    // Behind the offset table of 12 KiB, in the middle of the tokens.
    std::fstream file(episode::token_columns_path(path), std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(300'000);
    const char old = static_cast<char>(file.get());
    file.seekp(300'000);
    file.put(static_cast<char>(old ^ 1));
  }
  DataConfig config;
  config.datasets = {folder.path().string()};
  config.row_tokens = 512;
  const auto sources = open_sources(config, synthetic.vocabulary(), &synthetic.text(), Split::kTraining);
  const auto plan = std::make_shared<const RowPlan>(config, sources, 3);
  EXPECT_THROW(static_cast<void>(RowBuilder(plan, true).build(0, 640)), DataError);
  auto list = std::make_shared<Quarantine>("", 200);
  const Batch batch = RowBuilder(plan, true, list).build(0, 640);
  EXPECT_FALSE(list->empty());
  EXPECT_LT(list->entries().size(), 200u);
  EXPECT_NE(list->entries()[0].message.find(".tokens, offset 262144"), std::string::npos) << list->entries()[0].message;
  EXPECT_GT(batch.tokens, 0);
}

}  // namespace
}  // namespace gato::data
