#include "gato/episode/resident.h"

#include <gtest/gtest.h>

#include <fstream>
#include <thread>

#include "episode/sample_data.h"
#include "gato/core/error.h"
#include "gato/episode/shard.h"
#include "support/temp_folder.h"

namespace gato::episode {
namespace {

constexpr int64_t kSteps = 2000, kValues = 1024;  // 4 KiB per step, 8 MiB per shard

TaskSpec wide_task() {
  TaskSpec task;
  task.id = "wide/numbers";
  task.observation = {sample::continuous_field("x", {kValues}, -1, 1)};
  task.action = {sample::discrete_field("a", {}, 4)};
  return task;
}

float value_of(int64_t shard, int64_t step) { return static_cast<float>((shard * 7919 + step * 31) % 1009) / 1009; }

Path write_shard(const Path& path, int64_t number) {
  Episode made;
  made.id = cat("wide#", number);
  made.num_steps = kSteps;
  made.observation.resize(1);
  for (int64_t s = 0; s < kSteps; ++s) {
    made.observation[0].continuous.insert(made.observation[0].continuous.end(), kValues, value_of(number, s));
  }
  made.action.resize(1);
  made.action[0].discrete.assign(kSteps, 1);
  ShardWriter writer(path, sample::dataset_info(), {wide_task()});
  writer.add(0, made);
  writer.finish();
  return path;
}

/// Bytes of mapped shards that are in this process's memory, as the system counts them.
uint64_t resident_shard_bytes() {
  std::ifstream maps("/proc/self/smaps");
  uint64_t bytes = 0;
  bool of_shard = false;
  for (std::string line; std::getline(maps, line);) {
    // A mapping's first line begins with its address; what is said of it, with a capital letter.
    if (!line.empty() && (line[0] < 'A' || line[0] > 'Z')) of_shard = line.ends_with(".gato");
    if (of_shard && line.starts_with("Rss:")) bytes += std::stoull(line.substr(4)) * 1024;
  }
  return bytes;
}

class ResidentTest : public testing::Test {
 protected:
  void TearDown() override { set_resident_cap(kDefaultResidentCap); }
};

TEST_F(ResidentTest, MemoryStaysUnderTheCapAndValuesStayRight) {
  const test::TempFolder folder("resident");
  std::vector<ShardReader> shards;
  for (int64_t i = 0; i < 6; ++i) shards.emplace_back(write_shard(folder / cat(i, ".gato"), i));
  constexpr uint64_t kCap = uint64_t{8} << 20;  // of 48 MiB
  set_resident_cap(kCap);
  uint64_t most = 0;
  Rng rng(5);
  for (int trial = 0; trial < 20000; ++trial) {
    const int64_t shard = rng.below(6), step = rng.below(kSteps);
    const auto values =
        shards[static_cast<size_t>(shard)].continuous(0, Group::kObservation, 0, static_cast<uint64_t>(step), 1);
    ASSERT_EQ(values[0], value_of(shard, step));
    ASSERT_EQ(values[kValues - 1], value_of(shard, step));
    ASSERT_LE(resident_statistics().resident_bytes, kCap + (uint64_t{1} << 20));
    if (trial % 500 == 0) most = std::max(most, resident_shard_bytes());
  }
  EXPECT_GT(resident_statistics().evicted_bytes, kCap);
  EXPECT_GT(most, kCap / 2);
  EXPECT_LE(most, kCap + kCap / 4 + resident_statistics().pinned_bytes) << "what the system counts follows our count";
}

TEST_F(ResidentTest, ThreadsShareTheCap) {
  const test::TempFolder folder("resident");
  const ShardReader a(write_shard(folder / "a.gato", 0)), b(write_shard(folder / "b.gato", 1));
  set_resident_cap(uint64_t{4} << 20);
  std::vector<std::thread> threads;
  std::atomic<int64_t> wrong{0};
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      Rng rng(t);
      for (int trial = 0; trial < 3000; ++trial) {
        const int64_t shard = rng.below(2), step = rng.below(kSteps);
        const auto values = (shard == 0 ? a : b).continuous(0, Group::kObservation, 0, static_cast<uint64_t>(step), 1);
        for (const float value : values) wrong += value != value_of(shard, step) ? 1 : 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_LE(resident_statistics().resident_bytes, uint64_t{6} << 20);
}

TEST_F(ResidentTest, ClosedShardsCountNoMore) {
  const test::TempFolder folder("resident");
  const ResidentStatistics before = resident_statistics();
  {
    const ShardReader shard(write_shard(folder / "a.gato", 0));
    static_cast<void>(shard.continuous(0, Group::kObservation, 0, 0, kSteps));
    EXPECT_GE(resident_statistics().resident_bytes, before.resident_bytes + kSteps * kValues * 4 - (2 << 16));
    EXPECT_GT(resident_statistics().pinned_bytes, before.pinned_bytes) << "the episode index";
  }
  EXPECT_EQ(resident_statistics().resident_bytes, before.resident_bytes);
  EXPECT_EQ(resident_statistics().pinned_bytes, before.pinned_bytes);
}

TEST_F(ResidentTest, FileCutShortWhileInUseIsAnErrorAndNoCrash) {
  const test::TempFolder folder("resident");
  const Path path = write_shard(folder / "a.gato", 0);
  const ShardReader shard(path);
  std::filesystem::resize_file(path, 100'000);
  const std::string message = sample::message_of<IoError>(
      [&] { static_cast<void>(shard.continuous(0, Group::kObservation, 0, kSteps - 100, 1)); });
  EXPECT_NE(message.find("a.gato, offset "), std::string::npos) << message;
  EXPECT_NE(message.find("cut short"), std::string::npos) << message;
}

}  // namespace
}  // namespace gato::episode
