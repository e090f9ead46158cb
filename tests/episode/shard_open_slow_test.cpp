#include <gtest/gtest.h>

#include <chrono>

#include "episode/sample_data.h"
#include "gato/episode/shard.h"
#include "support/temp_folder.h"

namespace gato::episode {
namespace {

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// A shard of a million short episodes opens, with its index checked entry by entry, in less than two seconds, and one
/// step of any of them is read without touching the others.
TEST(ShardOpenSlowTest, AMillionEpisodesOpenInTwoSeconds) {
  constexpr int64_t kEpisodes = 1000000;
  const test::TempFolder folder("million");
  TaskSpec task;
  task.id = "sample/short";
  task.observation = {sample::continuous_field("x", {4}, 0, 1)};
  task.action = {sample::discrete_field("a", {}, 2)};
  {
    ShardWriter writer(folder / "a.gato", sample::dataset_info(), {task});
    Episode episode = sample::random_episode(task, 1, 3);
    for (int64_t i = 0; i < kEpisodes; ++i) {
      episode.id = cat("short/", i);
      episode.observation[0].continuous[0] = static_cast<float>(i);
      writer.add(0, episode);
    }
    writer.finish();
  }
  const auto start = std::chrono::steady_clock::now();
  const ShardReader reader(folder / "a.gato");
  ASSERT_EQ(reader.index().size(), static_cast<size_t>(kEpisodes));
  const Episode last = reader.read(kEpisodes - 1, 0, 1);
  const double seconds = seconds_since(start);
  std::printf("figure shard_open/1M_episodes %.4f s\n", seconds);
  EXPECT_LT(seconds, 2.0);
  EXPECT_EQ(last.id, "short/999999");
  EXPECT_EQ(last.observation[0].continuous[0], static_cast<float>(kEpisodes - 1));
}

}  // namespace
}  // namespace gato::episode
