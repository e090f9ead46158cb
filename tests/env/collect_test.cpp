#include "gato/env/collect.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <thread>

#include "env/test_tasks.h"
#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/core/signals.h"
#include "gato/env/rollout.h"
#include "gato/episode/shard.h"
#include "support/child_process.h"
#include "support/temp_folder.h"

namespace gato::env {
namespace {

namespace fs = std::filesystem;

class CollectTest : public testing::Test {
 protected:
  void SetUp() override {
    ::setenv("GATO_PROGRESS", "off", 1);
    log::set_level(log::Level::kOff);
    test::register_walk(kWalk);
    write_file_atomic(folder_ / "text.txt", "first document\n%\nsecond document\n%\n");
    suite_.name = "small";
    suite_.tasks = {{.pattern = kWalk, .episodes = 150, .noise = {0, 0.5}},
                    {.pattern = "grid/go_to", .episodes = 70, .noise = {0, 0.4}},
                    {.pattern = "pictures/*", .episodes = 3},
                    {.pattern = "pictures/*_heldout", .episodes = 0}};
    suite_.texts = {{.name = "text/two", .files = {(folder_ / "text.txt").string()}, .licence = "CC0-1.0"}};
    options_.out = folder_ / "out";
    options_.reference_episodes = 5;
    options_.seed = 4;
  }
  void TearDown() override {
    log::set_level(log::Level::kInfo);
    clear_signal_flags();
  }

  std::map<std::string, CollectSummary> run() {
    std::map<std::string, CollectSummary> summaries;
    for (CollectSummary& summary : collect(suite_, options_)) summaries[summary.task] = std::move(summary);
    return summaries;
  }

  /// Content of every file below `out` but the lock.
  static std::map<std::string, std::string> contents(const fs::path& out) {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(out)) {
      if (!entry.is_regular_file() || entry.path().filename() == ".collect.lock") continue;
      files[fs::relative(entry.path(), out).string()] = read_file(entry.path());
    }
    return files;
  }

  static constexpr const char* kWalk = "test/collect_walk";
  gato::test::TempFolder folder_{"collect"};
  Suite suite_;
  CollectOptions options_;
};

TEST_F(CollectTest, RecordsWhatTheSuiteAsksFor) {
  const auto summaries = run();
  EXPECT_EQ(summaries.size(), 5u);
  EXPECT_EQ(summaries.count("pictures/caption_heldout"), 0u);
  EXPECT_FALSE(fs::exists(options_.out / "pictures-caption_heldout"));
  const CollectSummary& walk = summaries.at(kWalk);
  EXPECT_EQ(walk.episodes, 150);
  EXPECT_EQ(walk.steps, 150 * test::Walk::kSteps);
  EXPECT_FALSE(walk.reused);
  EXPECT_EQ(walk.expert.episodes, 5);
  EXPECT_GT(walk.expert.mean, walk.mean_return);
  EXPECT_GT(walk.mean_return, walk.random.mean);

  const episode::ShardReader shard(options_.out / "test-collect_walk" / "test-collect_walk-00000.gato");
  EXPECT_EQ(shard.info().name, kWalk);
  ASSERT_EQ(shard.tasks().size(), 1u);
  EXPECT_EQ(shard.tasks()[0].expert, walk.expert);
  EXPECT_EQ(shard.tasks()[0].random, walk.random);
  ASSERT_EQ(shard.index().size(), 150u);
  double total = 0;
  for (int64_t i = 0; i < 150; ++i) {
    const episode::Episode episode = shard.read(i);
    EXPECT_EQ(episode.seed, seed_for(SeedUse::kData, 4, kWalk, i));
    EXPECT_FALSE(episode.label.empty());
    total += episode.total_return();
  }
  EXPECT_EQ(shard.episode_id(149), "test/collect_walk/000149");
  EXPECT_NEAR(total / 150, walk.mean_return, 1e-6);
  EXPECT_TRUE(shard.verify().empty());
}

TEST_F(CollectTest, ReferenceScoresAreThoseOfRollouts) {
  const auto summaries = run();
  const auto seeds = seeds_for(SeedUse::kReference, 4, "grid/go_to", 5);
  EXPECT_EQ(summaries.at("grid/go_to").expert,
            return_record(roll_out_reference("grid/go_to", ReferenceAgent::kExpert, seeds)));
  EXPECT_EQ(summaries.at("grid/go_to").random,
            return_record(roll_out_reference("grid/go_to", ReferenceAgent::kRandom, seeds)));
}

TEST_F(CollectTest, TextsAreDocumentsOfOneStep) {
  EXPECT_EQ(run().at("text/two").episodes, 2);
  const episode::ShardReader shard(options_.out / "text-two" / "text-two-00000.gato");
  const TaskSpec& spec = shard.tasks()[0];
  EXPECT_EQ(spec.scoring, episode::Scoring::kLoss);
  EXPECT_TRUE(spec.observation.empty());
  ASSERT_EQ(spec.action.size(), 1u);
  EXPECT_EQ(spec.action[0].name, "text");
  EXPECT_EQ(spec.licence, "CC0-1.0");
  const episode::Episode document = shard.read(1);
  EXPECT_EQ(document.num_steps, 1);
  EXPECT_EQ(document.action[0].text, std::vector<std::string>{"second document"});
  EXPECT_TRUE(document.label.empty());
}

TEST_F(CollectTest, FilesDoNotDependOnTheNumberOfThreads) {
  options_.threads = 1;
  run();
  const auto one = contents(options_.out);
  EXPECT_EQ(one.size(), 10u);  // a shard and a collect.json each
  for (const int threads : {2, 7}) {
    options_.threads = threads;
    options_.out = folder_ / "other";
    fs::remove_all(options_.out);
    run();
    EXPECT_TRUE(contents(options_.out) == one) << threads;
  }
  options_.seed = 5;
  run();
  EXPECT_FALSE(contents(options_.out) == one) << "another seed";
}

TEST_F(CollectTest, FinishedDataSetsAreKept) {
  const auto first = run();
  const auto before = contents(options_.out);
  const fs::path shard = options_.out / "grid-go_to" / "grid-go_to-00000.gato";
  const auto written = fs::last_write_time(shard);
  for (const auto& [task, summary] : run()) {
    EXPECT_TRUE(summary.reused) << task;
    EXPECT_EQ(summary.episodes, first.at(task).episodes);
    EXPECT_EQ(summary.expert, first.at(task).expert);
    EXPECT_DOUBLE_EQ(summary.mean_return, first.at(task).mean_return);
  }
  EXPECT_EQ(fs::last_write_time(shard), written);
  EXPECT_TRUE(contents(options_.out) == before);
}

TEST_F(CollectTest, OtherSettingsMakeADataSetAgain) {
  run();
  suite_.tasks[0].noise = {0, 0.25};
  write_file_atomic(folder_ / "text.txt", "another document\n");
  const auto summaries = run();
  EXPECT_FALSE(summaries.at(kWalk).reused);
  EXPECT_FALSE(summaries.at("text/two").reused);
  EXPECT_EQ(summaries.at("text/two").episodes, 1);
  EXPECT_TRUE(summaries.at("grid/go_to").reused);
}

TEST_F(CollectTest, DamagedOrUnfinishedDataSetsAreMadeAgain) {
  run();
  const auto whole = contents(options_.out);
  const fs::path folder = options_.out / "grid-go_to";
  const fs::path shard = folder / "grid-go_to-00000.gato", manifest = folder / "collect.json";
  const std::string shard_bytes = read_file(shard), manifest_bytes = read_file(manifest);
  const auto expect_made_again = [&](const std::string& what) {
    const auto summaries = run();
    EXPECT_FALSE(summaries.at("grid/go_to").reused) << what;
    EXPECT_TRUE(summaries.at(kWalk).reused) << what;
    EXPECT_TRUE(contents(options_.out) == whole) << what;
  };
  std::string flipped = shard_bytes;
  flipped[flipped.size() / 2] = static_cast<char>(flipped[flipped.size() / 2] ^ 1);
  write_file_atomic(shard, flipped);
  expect_made_again("a flipped bit");
  write_file_atomic(shard, shard_bytes.substr(0, shard_bytes.size() - 1));
  expect_made_again("a truncated shard");
  fs::remove(shard);
  expect_made_again("a missing shard");
  fs::remove(manifest);
  expect_made_again("a missing manifest");
  for (size_t length = 0; length < manifest_bytes.size(); length += 97) {
    write_file_atomic(manifest, manifest_bytes.substr(0, length));
    expect_made_again("a truncated manifest");
  }
  for (const char* nonsense : {"{}", "[]", "3", "{\"version\":1,\"settings\":{},\"shards\":3,\"summary\":{}}"}) {
    write_file_atomic(manifest, nonsense);
    expect_made_again(nonsense);
  }
}

TEST_F(CollectTest, GoesOnAfterAnInterruption) {
  request_stop();
  EXPECT_THROW(run(), Interrupted);
  clear_signal_flags();
  // Killed while recording grid/go_to: an unfinished shard without a manifest.
  suite_.tasks = {suite_.tasks[1]};
  suite_.texts.clear();
  make_folders(options_.out / "grid-go_to");
  write_file_atomic(options_.out / "grid-go_to" / "grid-go_to-00001.gato", "of an earlier, longer data set");
  run();
  EXPECT_FALSE(fs::exists(options_.out / "grid-go_to" / "grid-go_to-00001.gato"));
  EXPECT_EQ(contents(options_.out).size(), 2u);
}

TEST_F(CollectTest, KilledAtAnyInstantItGoesOnToTheSameFiles) {
  options_.out = folder_ / "whole";
  ASSERT_EQ(gato::test::run_in_child([&] { return run().size() == 5 ? 0 : 1; }).exit_code, 0);
  options_.out = folder_ / "killed";
  int kills = 0;
  for (int delay_ms = 1;; delay_ms += 1 + delay_ms / 4) {
    const pid_t child = gato::test::start_child([&] { return run().size() == 5 ? 0 : 1; });
    std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms));
    ::kill(child, SIGKILL);
    const gato::test::ChildEnd end = gato::test::wait_for_child(child);
    if (end.signal == 0) {
      EXPECT_EQ(end.exit_code, 0);
      break;
    }
    ++kills;
  }
  EXPECT_GE(kills, 1);
  EXPECT_TRUE(contents(folder_ / "killed") == contents(folder_ / "whole")) << "after " << kills << " kills";
}

TEST_F(CollectTest, TasksWithoutExpertAreLeftOut) {
  test::register_walk("test/collect_no_expert", test::Walk::kSteps, false);
  suite_.tasks = {{.pattern = "test/collect_no_expert", .episodes = 3}};
  suite_.texts.clear();
  EXPECT_TRUE(run().empty());
}

TEST_F(CollectTest, ScaleShrinksEveryTask) {
  options_.episodes_scale = 0.1;
  const auto summaries = run();
  EXPECT_EQ(summaries.at(kWalk).episodes, 15);
  EXPECT_EQ(summaries.at("grid/go_to").episodes, 7);
  EXPECT_EQ(summaries.at("pictures/caption").episodes, 1) << "at least one";
}

TEST_F(CollectTest, RefusesBadOptions) {
  options_.episodes_scale = 0;
  EXPECT_THROW(run(), ConfigError);
  options_.episodes_scale = 1;
  options_.reference_episodes = -1;
  EXPECT_THROW(run(), ConfigError);
  options_.reference_episodes = 1;
  options_.out.clear();
  EXPECT_THROW(run(), ConfigError);
}

TEST_F(CollectTest, OneAtATimeInAFolder) {
  make_folders(options_.out);
  const FileLock lock(options_.out / ".collect.lock", "wait");
  EXPECT_THROW(run(), ConfigError);
}

TEST_F(CollectTest, AFileInTheWayIsNamed) {
  make_folders(options_.out);
  write_file_atomic(options_.out / "grid-go_to", "not a folder");
  try {
    run();
    FAIL();
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find("grid-go_to"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace gato::env
