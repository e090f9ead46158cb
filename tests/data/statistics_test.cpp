#include "gato/data/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <numeric>

#include "gato/core/error.h"
#include "gato/tokenizer/numbers.h"
#include "support/plan_data.h"

namespace gato::data {
namespace {

using episode::Group;
using episode::Modality;

/// A task with a number, a discrete value and a text, and known values.
episode::TaskSpec known_task() {
  episode::TaskSpec task;
  task.id = "known/values";
  task.observation = {test::field("number", Modality::kContinuous, {2}), test::field("word", Modality::kText)};
  task.action = {test::field("choice", Modality::kDiscrete, {}, 5), test::field("push", Modality::kContinuous)};
  task.action[1].low = {-4};
  task.action[1].high = {4};
  return task;
}

episode::Episode known_episode(const std::string& id, const std::vector<float>& numbers,
                               const std::vector<int32_t>& choices, const std::vector<std::string>& words) {
  episode::Episode made;
  made.id = id;
  made.num_steps = static_cast<int64_t>(choices.size());
  made.observation.resize(2);
  made.observation[0].continuous = numbers;
  made.observation[1].text = words;
  made.action.resize(2);
  made.action[0].discrete = choices;
  for (size_t i = 0; i < choices.size(); ++i) made.action[1].continuous.push_back(static_cast<float>(choices[i]) - 2);
  return made;
}

Path write_known(const Path& path, int from, int to) {
  const std::vector<std::vector<float>> numbers = {{0, 0.5f, 2, -3}, {1, 1}, {-0.25f, INFINITY, 0, 0, 0, 0}};
  const std::vector<std::vector<int32_t>> choices = {{4, 1}, {1}, {0, 1, 1}};
  const std::vector<std::vector<std::string>> words = {{"", "seven!!"}, {"x"}, {"ab", "abcd", "abc"}};
  episode::ShardWriter writer(path, {"known", "", "", "test"}, {known_task()});
  for (int e = from; e < to; ++e) {
    const auto i = static_cast<size_t>(e);
    writer.add(0, known_episode(cat("e", e), numbers[i], choices[i], words[i]));
  }
  writer.finish();
  return path;
}

TEST(StatisticsTest, CountsWhatIsThere) {
  const gato::test::TempFolder folder;
  const Path path = write_known(folder / "a.gato", 0, 3);
  const ShardStatistics counted = compute_statistics(episode::ShardReader(path), nullptr);
  ASSERT_EQ(counted.tasks.size(), 1u);
  const TaskStatistics& task = counted.tasks[0];
  EXPECT_EQ(task.episodes, 3);
  EXPECT_EQ(task.steps, 6);
  ASSERT_EQ(task.fields.size(), 4u);
  const FieldStatistics& number = task.fields[0];
  EXPECT_EQ(number.count, 12);
  EXPECT_EQ(number.minimum, -3);
  EXPECT_EQ(number.outside, 3) << "2, -3 and infinity are outside [-1, 1]";
  EXPECT_EQ(number.counts.size(), 1024u);
  EXPECT_EQ(std::accumulate(number.counts.begin(), number.counts.end(), int64_t{0}), 12);
  EXPECT_EQ(number.counts[static_cast<size_t>(tokenizer::observation_bin(0))], 5);
  EXPECT_EQ(number.counts[1023], 1) << "infinity clips";
  const FieldStatistics& word = task.fields[1];
  EXPECT_EQ(word.unit, "bytes");
  EXPECT_EQ(word.counts, (std::vector<int64_t>{1, 1, 2, 2})) << "lengths 0, 1, 2 and 3, 4 and 7";
  EXPECT_EQ(word.maximum, 7);
  const FieldStatistics& choice = task.fields[2];
  EXPECT_EQ(choice.group, Group::kAction);
  EXPECT_EQ(choice.counts, (std::vector<int64_t>{1, 4, 0, 0, 1}));
  EXPECT_NEAR(choice.mean, 8.0 / 6, 1e-12);
  EXPECT_NEAR(choice.deviation(), std::sqrt((16 + 4.0) / 6 - 64.0 / 36), 1e-12);
  const FieldStatistics& push = task.fields[3];
  EXPECT_EQ(push.counts[static_cast<size_t>(tokenizer::action_bin(0.5f))], 1) << "actions by their own bounds";
  EXPECT_EQ(push.outside, 0);
}

TEST(StatisticsTest, MergedShardsAreAsOneShard) {
  const gato::test::TempFolder folder;
  write_known(folder / "whole.gato", 0, 3);
  const StatisticsByTask whole = statistics_of_shards({folder / "whole.gato"});
  const StatisticsByTask merged =
      statistics_of_shards({write_known(folder / "a.gato", 0, 1), write_known(folder / "b.gato", 1, 3)});
  const TaskStatistics& a = whole.at("known/values");
  const TaskStatistics& b = merged.at("known/values");
  EXPECT_EQ(a.episodes, b.episodes);
  for (size_t f = 0; f < a.fields.size(); ++f) {
    EXPECT_EQ(a.fields[f].counts, b.fields[f].counts);
    EXPECT_EQ(a.fields[f].outside, b.fields[f].outside);
    EXPECT_EQ(a.fields[f].maximum, b.fields[f].maximum);
    EXPECT_NEAR(a.fields[f].mean, b.fields[f].mean, 1e-9 * std::abs(a.fields[f].mean));
    EXPECT_NEAR(a.fields[f].squares, b.fields[f].squares, 1e-9 * a.fields[f].squares);
  }
  TaskStatistics other = a;
  other.fields[0].name = "else";
  TaskStatistics into = b;
  EXPECT_THROW(merge_statistics(into, other), DataError);
}

TEST(StatisticsTest, OfADamagedShardCountWhatIsWhole) {
  const gato::test::TempFolder folder;
  const episode::TaskSpec task = test::numbers_task("control/long", 8);
  const Path path = folder / "long.gato";
  episode::ShardWriter writer(path, {"long", "", "", "test"}, {task});
  for (int64_t e = 0; e < 100; ++e) writer.add(0, test::plain_episode(task, "e" + std::to_string(e), 200));
  writer.finish();
  const StatisticsByTask whole = statistics_of_shards({path});
  std::filesystem::remove(statistics_path(path));
  {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(200'000);  // in the fourth block of 64 KiB, among the observed numbers
    const char old = static_cast<char>(file.get());
    file.seekp(200'000);
    file.put(static_cast<char>(old ^ 1));
  }
  EXPECT_THROW(static_cast<void>(statistics_of(path)), DataError);
  const StatisticsByTask left = statistics_of_shards({path});
  EXPECT_FALSE(std::filesystem::exists(statistics_path(path))) << "incomplete statistics are not stored";
  const FieldStatistics& all = whole.at("control/long").fields[0];
  const FieldStatistics& some = left.at("control/long").fields[0];
  EXPECT_LT(some.count, all.count);
  EXPECT_GE(some.count, all.count - (65536 / 24 + 2) * 6) << "a block of steps of 24 bytes";
  EXPECT_EQ(left.at("control/long").fields[1].count, whole.at("control/long").fields[1].count);
}

TEST(StatisticsTest, AreStoredBesideTheShardAndBoundToIt) {
  const gato::test::TempFolder folder;
  const Path path = write_known(folder / "a.gato", 0, 2);
  const StoredStatistics made = statistics_of(path);
  EXPECT_FALSE(made.reused);
  const StoredStatistics again = statistics_of(path);
  EXPECT_TRUE(again.reused);
  EXPECT_TRUE(again.statistics == made.statistics);
  write_known(path, 0, 3);
  const StoredStatistics changed = statistics_of(path);
  EXPECT_FALSE(changed.reused) << "the shard is another one now";
  EXPECT_EQ(changed.statistics.tasks[0].episodes, 3);
  write_file_atomic(statistics_path(path), "{\"format\": \"gato.stat");
  EXPECT_FALSE(statistics_of(path).reused);
  EXPECT_TRUE(statistics_of(path).reused) << "a damaged file was replaced";
}

TEST(StatisticsTest, TextsAreCountedInTokensWhereThereAreSome) {
  const auto& data = test::shared_data();
  for (const Path& path : find_shards(data.config())) {
    const StoredStatistics stored = statistics_of(path);
    for (const TaskStatistics& task : stored.statistics.tasks) {
      for (const FieldStatistics& field : task.fields) {
        EXPECT_GT(field.count, 0);
        EXPECT_EQ(std::accumulate(field.counts.begin(), field.counts.end(), int64_t{0}), field.count);
        if (field.modality == Modality::kText) {
          EXPECT_EQ(field.unit, "tokens");
        }
        if (field.modality == Modality::kImage) {
          EXPECT_EQ(field.unit, "bytes");
        }
        if (task.task == "control/arm" && field.group == Group::kLabel) {
          EXPECT_EQ(field.name, "torque");
        }
      }
    }
    std::filesystem::remove(statistics_path(path));
  }
}

TEST(StatisticsTest, JsonKeepsEveryNumber) {
  const gato::test::TempFolder folder;
  const ShardStatistics counted =
      compute_statistics(episode::ShardReader(write_known(folder / "a.gato", 0, 3)), nullptr);
  EXPECT_TRUE(parse_shard_statistics(shard_statistics_json(counted), "test") == counted);
  const StatisticsByTask by_task = {{"known/values", counted.tasks[0]}};
  EXPECT_TRUE(parse_statistics(statistics_json(by_task), "test") == by_task);
}

TEST(StatisticsTest, DamagedJsonIsRefused) {
  const gato::test::TempFolder folder;
  const std::string whole =
      shard_statistics_json(compute_statistics(episode::ShardReader(write_known(folder / "a.gato", 0, 1)), nullptr));
  for (size_t length = 0; length + 1 < whole.size(); ++length) {
    EXPECT_THROW(static_cast<void>(parse_shard_statistics(whole.substr(0, length), "cut")), DataError) << length;
  }
  for (size_t i = 0; i < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] = static_cast<char>(damaged[i] ^ (1 << (i % 7)));
    try {
      static_cast<void>(parse_shard_statistics(damaged, "flipped"));
    } catch (const DataError& error) {
      EXPECT_NE(std::string(error.what()).find("flipped"), std::string::npos);
    }
  }
  for (const char* json :
       {R"({"format":"gato.statistics","version":2,"tasks":[],"fingerprint":"","tokenizer":""})",
        R"({"format":"other","version":1,"tasks":[],"fingerprint":"","tokenizer":""})",
        R"({"format":"gato.statistics","version":1,"tasks":[],"fingerprint":"","tokenizer":"","more":1})"}) {
    EXPECT_THROW(static_cast<void>(parse_shard_statistics(json, "test")), DataError) << json;
  }
}

TEST(StatisticsTest, HistogramsAndTextShowWhatMatters) {
  EXPECT_EQ(histogram_bars({0, 1, 2, 4, 8}, 5), " ▁▂▄█");
  EXPECT_EQ(histogram_bars({1, 1, 1000000}, 3), "▁▁█") << "little is not nothing";
  EXPECT_EQ(histogram_bars({1, 3, 0, 4}, 2), "██") << "neighbours are summed";
  EXPECT_EQ(histogram_bars({}, 4), "");
  EXPECT_EQ(histogram_bars({0, 0}, 4), "  ");
  const gato::test::TempFolder folder;
  const ShardStatistics counted =
      compute_statistics(episode::ShardReader(write_known(folder / "a.gato", 0, 3)), nullptr);
  const std::string text = describe_statistics(counted.tasks[0]);
  EXPECT_NE(text.find("25.000 % outside the declared bounds"), std::string::npos) << text;
  EXPECT_NE(text.find("action choice: 6 values, 0 to 4"), std::string::npos) << text;
}

}  // namespace
}  // namespace gato::data
