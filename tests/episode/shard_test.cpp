#include "gato/episode/shard.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <thread>

#include "episode/sample_data.h"
#include "gato/core/error.h"
#include "support/temp_folder.h"

namespace gato::episode {
namespace {

using sample::dataset_info;
using sample::document;
using sample::document_task;
using sample::mixed_task;
using sample::random_episode;

struct Item {
  int task;
  Episode episode;
};

void write_shard(const Path& path, const std::vector<TaskSpec>& tasks, const std::vector<Item>& items) {
  ShardWriter writer(path, dataset_info(), tasks);
  for (const Item& item : items) writer.add(item.task, item.episode);
  EXPECT_EQ(writer.num_episodes(), static_cast<int64_t>(items.size()));
  writer.finish();
}

/// What reading gives back: JPEG is not used in these, so everything comes back as it was.
void expect_same(const ShardReader& reader, const std::vector<Item>& items) {
  ASSERT_EQ(reader.index().size(), items.size());
  for (size_t i = 0; i < items.size(); ++i) {
    EXPECT_EQ(reader.read(static_cast<int64_t>(i)), items[i].episode) << "episode " << i;
    EXPECT_EQ(reader.episode_id(static_cast<int64_t>(i)), items[i].episode.id);
    EXPECT_EQ(reader.index()[i].task, static_cast<uint32_t>(items[i].task));
  }
}

std::vector<Item> some_items(const std::vector<TaskSpec>& tasks) {
  std::vector<Item> items;
  for (uint64_t i = 0; i < 12; ++i) {
    const int task = static_cast<int>(i % tasks.size());
    const sample::Parts parts{.reward = i % 3 != 1, .label = i % 4 >= 2};
    items.push_back(
        {task, random_episode(tasks[static_cast<size_t>(task)], i, 1 + static_cast<int64_t>(i % 5), parts)});
  }
  return items;
}

TEST(ShardTest, GivesBackEveryModality) {
  const test::TempFolder folder("shard");
  const std::vector<TaskSpec> tasks = {mixed_task()};
  const std::vector<Item> items = some_items(tasks);
  write_shard(folder / "a.gato", tasks, items);
  const ShardReader reader(folder / "a.gato");
  expect_same(reader, items);
  EXPECT_EQ(reader.tasks(), tasks);
  EXPECT_EQ(reader.info().name, dataset_info().name);
  EXPECT_EQ(reader.info().description, dataset_info().description);
  EXPECT_EQ(reader.info().licence, dataset_info().licence);
  EXPECT_EQ(reader.info().created_by, dataset_info().created_by);
  EXPECT_TRUE(reader.verify().empty());
}

TEST(ShardTest, HoldsSeveralTasks) {
  const test::TempFolder folder("shard");
  const std::vector<TaskSpec> tasks = {mixed_task(), document_task(), mixed_task("sample/other")};
  std::vector<Item> items = some_items({tasks[0]});
  for (Item& item : items) item.task = item.episode.seed % 2 == 0 ? 0 : 2;
  items.insert(items.begin() + 3, {1, document("doc/1", "One step of text.")});
  items.push_back({1, document("doc/2", "")});
  write_shard(folder / "a.gato", tasks, items);
  const ShardReader reader(folder / "a.gato");
  expect_same(reader, items);
  EXPECT_EQ(reader.num_steps(1), 2u);
  EXPECT_FALSE(reader.has_labels(1));
  EXPECT_TRUE(reader.has_labels(0));
  EXPECT_EQ(reader.source_agents(), (std::vector<std::string>{"random", "expert", ""}));
}

TEST(ShardTest, MayBeEmpty) {
  const test::TempFolder folder("shard");
  write_shard(folder / "a.gato", {mixed_task()}, {});
  const ShardReader reader(folder / "a.gato");
  EXPECT_TRUE(reader.index().empty());
  EXPECT_EQ(reader.num_steps(0), 0u);
  EXPECT_TRUE(reader.verify().empty());
  EXPECT_TRUE(reader.continuous(0, Group::kObservation, 0, 0, 0).empty());
  EXPECT_THROW((void)reader.read(0), ContractError);
}

TEST(ShardTest, ReadsWindows) {
  const test::TempFolder folder("shard");
  const TaskSpec task = mixed_task();
  const Episode first = random_episode(task, 1, 3),
                second = random_episode(task, 2, 7, {.reward = true, .label = true});
  write_shard(folder / "a.gato", {task}, {{0, first}, {0, second}});
  const ShardReader reader(folder / "a.gato");
  for (int64_t begin = 0; begin <= 7; ++begin) {
    for (int64_t count = 0; count <= 7 - begin; ++count) {
      EXPECT_EQ(reader.read(1, begin, count), sample::window_of(task, second, begin, count)) << begin << " + " << count;
    }
    EXPECT_EQ(reader.read(1, begin), sample::window_of(task, second, begin, 7 - begin));
  }
  EXPECT_THROW((void)reader.read(1, 3, 5), ContractError);
  EXPECT_THROW((void)reader.read(1, 8), ContractError);
  EXPECT_THROW((void)reader.read(1, -1), ContractError);
  EXPECT_THROW((void)reader.read(2), ContractError);
  EXPECT_THROW((void)reader.read(-1), ContractError);
}

TEST(ShardTest, IndexDescribesEpisodes) {
  const test::TempFolder folder("shard");
  const TaskSpec task = mixed_task();
  Episode episode = random_episode(task, 9, 4, {.reward = true, .label = true});
  episode.success = true;
  episode.terminated = true;
  episode.truncated = false;
  const Episode before = random_episode(task, 6, 2, {.reward = false});
  write_shard(folder / "a.gato", {task}, {{0, before}, {0, episode}});
  const ShardReader reader(folder / "a.gato");
  const EpisodeIndexEntry& entry = reader.index()[1];
  EXPECT_EQ(entry.split_hash, split_hash(episode.id));
  EXPECT_EQ(entry.first_step, 2u);
  EXPECT_EQ(entry.seed, 9u);
  EXPECT_EQ(entry.num_steps, 4u);
  EXPECT_FLOAT_EQ(entry.total_return, static_cast<float>(episode.total_return()));
  EXPECT_EQ(entry.flags,
            kEpisodeTerminated | kEpisodeHasSuccess | kEpisodeSuccess | kEpisodeHasReward | kEpisodeHasLabel);
  EXPECT_EQ(reader.index()[0].flags & (kEpisodeHasReward | kEpisodeHasLabel), 0u);
}

TEST(ShardTest, AccessorsGiveRows) {
  const test::TempFolder folder("shard");
  const TaskSpec task = mixed_task();
  const Episode first = random_episode(task, 1, 3),
                second = random_episode(task, 2, 4, {.reward = true, .label = true});
  write_shard(folder / "a.gato", {task}, {{0, first}, {0, second}});
  const ShardReader reader(folder / "a.gato");
  const auto velocity = reader.continuous(0, Group::kObservation, 0, 4, 2);  // Steps 1 and 2 of the second episode.
  ASSERT_EQ(velocity.size(), 12u);
  EXPECT_TRUE(std::equal(velocity.begin(), velocity.end(), second.observation[0].continuous.begin() + 6));
  const auto button = reader.discrete(0, Group::kAction, 0, 3, 4);
  ASSERT_EQ(button.size(), 4u);
  EXPECT_TRUE(std::equal(button.begin(), button.end(), second.action[0].discrete.begin()));
  const auto label = reader.discrete(0, Group::kLabel, 0, 3, 4);
  EXPECT_TRUE(std::equal(label.begin(), label.end(), second.label[0].discrete.begin()));
  // The first episode has no labels: its actions stand in for them.
  const auto substitute = reader.discrete(0, Group::kLabel, 0, 0, 3);
  EXPECT_TRUE(std::equal(substitute.begin(), substitute.end(), first.action[0].discrete.begin()));
  EXPECT_EQ(reader.text(0, Group::kLabel, 2, 1), first.action[2].text[1]);
  EXPECT_EQ(reader.text(0, Group::kObservation, 1, 5), second.observation[1].text[2]);
  EXPECT_EQ(decode_image(reader.encoded_image(0, Group::kObservation, 2, 0), "test"), first.observation[2].images[0]);
}

TEST(ShardTest, LabelsOfATaskWithoutLabelsAreItsActions) {
  const test::TempFolder folder("shard");
  const TaskSpec task = mixed_task();
  const Episode episode = random_episode(task, 1, 3);
  write_shard(folder / "a.gato", {task}, {{0, episode}});
  const ShardReader reader(folder / "a.gato");
  EXPECT_FALSE(reader.has_labels(0));
  const auto torque = reader.continuous(0, Group::kLabel, 1, 0, 3);
  EXPECT_TRUE(std::equal(torque.begin(), torque.end(), episode.action[1].continuous.begin(),
                         episode.action[1].continuous.end()));
  EXPECT_EQ(reader.text(0, Group::kLabel, 2, 1), episode.action[2].text[1]);
}

TEST(ShardTest, AccessorsCheckTheirArguments) {
  const test::TempFolder folder("shard");
  write_shard(folder / "a.gato", {mixed_task()}, {{0, random_episode(mixed_task(), 1, 3)}});
  const ShardReader reader(folder / "a.gato");
  EXPECT_THROW((void)reader.continuous(1, Group::kObservation, 0, 0, 1), ContractError);
  EXPECT_THROW((void)reader.continuous(0, Group::kObservation, 9, 0, 1), ContractError);
  EXPECT_THROW((void)reader.continuous(0, Group::kObservation, 1, 0, 1), ContractError);  // A text.
  EXPECT_THROW((void)reader.discrete(0, Group::kObservation, 0, 0, 1), ContractError);    // Continuous.
  EXPECT_THROW((void)reader.continuous(0, Group::kObservation, 0, 3, 1), ContractError);
  EXPECT_THROW((void)reader.continuous(0, Group::kObservation, 0, 0, 4), ContractError);
  EXPECT_THROW((void)reader.continuous(0, Group::kObservation, 0, 1, ~uint64_t{0}), ContractError);
  EXPECT_THROW((void)reader.text(0, Group::kObservation, 1, 3), ContractError);
  EXPECT_THROW((void)reader.text(0, Group::kObservation, 1, ~uint64_t{0}), ContractError);
  EXPECT_THROW((void)reader.encoded_image(0, Group::kObservation, 1, 0), ContractError);
}

TEST(ShardTest, JpegComesBackNearly) {
  const test::TempFolder folder("shard");
  TaskSpec task = document_task();
  task.observation = {sample::image_field("camera", 16, 16, ImageCodec::kJpeg)};
  Episode episode = document("one", "grey");
  episode.observation.resize(1);
  Image image{16, 16, std::vector<uint8_t>(16 * 16 * 3, 120)};
  for (size_t i = 0; i < image.pixels.size(); ++i) image.pixels[i] = static_cast<uint8_t>(i / 6);
  episode.observation[0].images = {image};
  write_shard(folder / "a.gato", {task}, {{0, episode}});
  const ShardReader reader(folder / "a.gato");
  EXPECT_EQ(std::to_integer<int>(reader.encoded_image(0, Group::kObservation, 0, 0)[1]), 0xd8);
  const Image back = reader.read(0).observation[0].images[0];
  ASSERT_EQ(back.pixels.size(), image.pixels.size());
  for (size_t i = 0; i < image.pixels.size(); ++i) EXPECT_NEAR(back.pixels[i], image.pixels[i], 12) << i;
}

TEST(ShardTest, EqualContentGivesEqualFiles) {
  const test::TempFolder folder("shard");
  const std::vector<TaskSpec> tasks = {mixed_task()};
  write_shard(folder / "a.gato", tasks, some_items(tasks));
  write_shard(folder / "b.gato", tasks, some_items(tasks));
  EXPECT_EQ(sample::slurp(folder / "a.gato"), sample::slurp(folder / "b.gato"));
  EXPECT_EQ(ShardReader(folder / "a.gato").fingerprint(), ShardReader(folder / "b.gato").fingerprint());
  EXPECT_EQ(ShardReader(folder / "a.gato").fingerprint().size(), 32u);
}

TEST(ShardTest, AnyChangeChangesTheFingerprint) {
  const test::TempFolder folder("shard");
  const TaskSpec task = mixed_task();
  const Episode episode = random_episode(task, 1, 3);
  write_shard(folder / "a.gato", {task}, {{0, episode}});
  const std::string fingerprint = ShardReader(folder / "a.gato").fingerprint();
  Episode changed = episode;
  changed.observation[4].discrete[11] ^= 1;
  write_shard(folder / "b.gato", {task}, {{0, changed}});
  EXPECT_NE(ShardReader(folder / "b.gato").fingerprint(), fingerprint);
  TaskSpec other = task;
  other.expert.mean += 1;
  write_shard(folder / "b.gato", {other}, {{0, episode}});
  EXPECT_NE(ShardReader(folder / "b.gato").fingerprint(), fingerprint);
}

TEST(ShardTest, NothingAppearsBeforeFinish) {
  const test::TempFolder folder("shard");
  {
    ShardWriter writer(folder / "a.gato", dataset_info(), {mixed_task()});
    writer.add(0, random_episode(mixed_task(), 1, 3));
    EXPECT_FALSE(std::filesystem::exists(folder / "a.gato"));
  }
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(ShardTest, BytesCountWhatTheFileWillHold) {
  const test::TempFolder folder("shard");
  const TaskSpec task = mixed_task();
  ShardWriter writer(folder / "a.gato", dataset_info(), {task});
  EXPECT_EQ(writer.bytes(), 0u);
  for (uint64_t i = 0; i < 200; ++i) writer.add(0, random_episode(task, i, 20, {.reward = true, .label = true}));
  const uint64_t expected = writer.bytes();
  writer.finish();
  const auto actual = static_cast<uint64_t>(std::filesystem::file_size(folder / "a.gato"));
  EXPECT_NEAR(static_cast<double>(expected), static_cast<double>(actual), 0.02 * static_cast<double>(actual));
}

TEST(ShardTest, RefusesWhatItCannotKeep) {
  const test::TempFolder folder("shard");
  const TaskSpec task = mixed_task();
  const auto make = [&](DatasetInfo info, std::vector<TaskSpec> tasks) { ShardWriter(folder / "a.gato", info, tasks); };
  EXPECT_THROW(make({"", "", "", ""}, {task}), ConfigError);
  EXPECT_THROW(make({"../up", "", "", ""}, {task}), ConfigError);
  EXPECT_THROW(make({"a b", "", "", ""}, {task}), ConfigError);
  EXPECT_THROW(make({"a", "\xff", "", ""}, {task}), ConfigError);
  EXPECT_THROW(make(dataset_info(), {}), ConfigError);
  EXPECT_THROW(make(dataset_info(), {task, task}), ConfigError);
  TaskSpec bad = task;
  bad.action.clear();
  EXPECT_THROW(make(dataset_info(), {bad}), ConfigError);
  sample::spill(folder / "file", "");
  EXPECT_THROW(ShardWriter(folder / "file" / "a.gato", dataset_info(), {task}), IoError);

  ShardWriter writer(folder / "a.gato", dataset_info(), {task});
  const Episode episode = random_episode(task, 1, 3);
  EXPECT_THROW(writer.add(1, episode), ContractError);
  Episode wrong = episode;
  wrong.action[0].discrete[0] = 99;
  EXPECT_THROW(writer.add(0, wrong), DataError);
  writer.add(0, episode);
  const std::string message = sample::message_of<DataError>([&] { writer.add(0, episode); });
  EXPECT_NE(message.find("unique"), std::string::npos) << message;
  writer.finish();
  EXPECT_THROW(writer.add(0, episode), ContractError);
  EXPECT_THROW(writer.finish(), ContractError);
  EXPECT_EQ(ShardReader(folder / "a.gato").index().size(), 1u);  // Refused episodes left nothing behind.
}

TEST(ShardTest, HugeReturnsStayFinite) {
  const test::TempFolder folder("shard");
  Episode episode = document("a", "b");
  episode.reward = {std::numeric_limits<float>::max()};
  Episode two = random_episode(document_task(), 5, 2, {.reward = false});
  two.reward = {std::numeric_limits<float>::max(), std::numeric_limits<float>::max()};
  write_shard(folder / "a.gato", {document_task()}, {{0, episode}, {0, two}});
  EXPECT_EQ(ShardReader(folder / "a.gato").index()[1].total_return, std::numeric_limits<float>::max());
}

TEST(ShardTest, ReaderMoves) {
  const test::TempFolder folder("shard");
  const Episode episode = random_episode(mixed_task(), 1, 3);
  write_shard(folder / "a.gato", {mixed_task()}, {{0, episode}});
  ShardReader reader(folder / "a.gato");
  ShardReader other = std::move(reader);
  std::vector<ShardReader> readers;
  readers.push_back(std::move(other));
  EXPECT_EQ(readers[0].read(0), episode);
}

TEST(ShardTest, ManyThreadsReadOneReader) {
  const test::TempFolder folder("shard");
  const std::vector<TaskSpec> tasks = {mixed_task()};
  std::vector<Item> items;
  for (uint64_t i = 0; i < 40; ++i) items.push_back({0, random_episode(tasks[0], i, 30)});
  write_shard(folder / "a.gato", tasks, items);
  ASSERT_GT(std::filesystem::file_size(folder / "a.gato"), 3u * 65536u);
  const ShardReader reader(folder / "a.gato");
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (size_t i = 0; i < items.size(); ++i) {
        const size_t index = (i * 7 + t * 11) % items.size();
        if (reader.read(static_cast<int64_t>(index)) != items[index].episode) ++wrong[t];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

TEST(ShardTest, ColumnSizesCoverTheFile) {
  const test::TempFolder folder("shard");
  const std::vector<TaskSpec> tasks = {mixed_task()};
  write_shard(folder / "a.gato", tasks, some_items(tasks));
  const ShardReader reader(folder / "a.gato");
  uint64_t sum = 0;
  std::vector<std::string> names;
  for (const ColumnSize& column : reader.column_sizes()) {
    sum += column.bytes;
    names.push_back(column.name);
  }
  EXPECT_EQ(reader.file_bytes(), std::filesystem::file_size(folder / "a.gato"));
  EXPECT_LT(sum, reader.file_bytes());
  EXPECT_EQ(names[0], "episode index");
  EXPECT_NE(std::find(names.begin(), names.end(), "sample/mixed observation/velocity"), names.end());
  EXPECT_NE(std::find(names.begin(), names.end(), "sample/mixed label/reply"), names.end());
  EXPECT_NE(std::find(names.begin(), names.end(), "sample/mixed reward"), names.end());
}

}  // namespace
}  // namespace gato::episode
