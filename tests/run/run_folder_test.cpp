#include "gato/run/run_folder.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/run/metrics.h"
#include "support/child_process.h"
#include "support/temp_folder.h"

namespace gato::run {
namespace {

namespace fs = std::filesystem;
using gato::test::TempFolder;

TEST(RunFolderTest, LayoutIsAsDocumented) {
  const RunFolder run("runs/demo");
  EXPECT_EQ(run.config_path(), "runs/demo/config.yaml");
  EXPECT_EQ(run.environment_path(), "runs/demo/environment.json");
  EXPECT_EQ(run.schedule_path(), "runs/demo/schedule.json");
  EXPECT_EQ(run.quarantine_path(), "runs/demo/quarantine.jsonl");
  EXPECT_EQ(run.lock_path(), "runs/demo/lock");
  EXPECT_EQ(run.metrics_path(), "runs/demo/metrics.jsonl");
  EXPECT_EQ(run.scores_path(), "runs/demo/scores.jsonl");
  EXPECT_EQ(run.tensorboard_path("train"), "runs/demo/tensorboard/train");
  EXPECT_EQ(run.checkpoints_path(), "runs/demo/checkpoints");
  EXPECT_EQ(run.queue_path(), "runs/demo/eval/queue");
  EXPECT_EQ(run.results_path(), "runs/demo/eval/results");
  EXPECT_EQ(run.results_path(1000, "demo"), "runs/demo/eval/results/step-00001000@demo");
  EXPECT_EQ(run.report_path(), "runs/demo/report/index.html");
  for (const char* suite : {"", "..", "a/b", ".hidden", "a b"}) {
    EXPECT_THROW(static_cast<void>(run.results_path(1, suite)), ContractError) << suite;
  }
  EXPECT_FALSE(fs::exists("runs/demo"));
}

TEST(RunFolderTest, IsMadeOnce) {
  const TempFolder folder("run");
  RunFolder run(folder / "a" / "b");
  EXPECT_FALSE(run.exists());
  run.create();
  run.create();
  EXPECT_TRUE(fs::is_directory(run.checkpoints_path()));
  EXPECT_TRUE(fs::is_directory(run.results_path()));
  EXPECT_FALSE(run.exists()) << "without a configuration it is no run";
  EXPECT_THROW(RunFolder("/proc/gato-run").create(), IoError);
}

TEST(RunFolderTest, OnlyOneProcessHoldsTheLock) {
  const TempFolder folder("run");
  RunFolder run(folder / "demo");
  run.lock();
  run.lock();
  const auto other = gato::test::run_in_child([&] {
    try {
      RunFolder(folder / "demo").lock();
    } catch (const ConfigError& error) {
      const std::string message = error.what();
      const bool is_helpful = message.find("demo/lock") != std::string::npos &&
                              message.find("process") != std::string::npos &&
                              message.find("run.dir") != std::string::npos;
      return is_helpful ? 0 : 2;
    }
    return 3;
  });
  EXPECT_EQ(other.exit_code, 0);
}

TEST(RunFolderTest, PreviousConfigurationsAreKept) {
  const TempFolder folder("run");
  RunFolder run(folder.path());
  EXPECT_FALSE(run.write_config("a: 1\n"));
  EXPECT_TRUE(run.exists());
  EXPECT_FALSE(run.write_config("a: 1\n"));
  EXPECT_TRUE(run.write_config("a: 2\n"));
  EXPECT_TRUE(run.write_config("a: 3\n"));
  EXPECT_EQ(read_file(run.config_path()), "a: 3\n");
  EXPECT_EQ(read_file(folder / "config-1.yaml"), "a: 1\n");
  EXPECT_EQ(read_file(folder / "config-2.yaml"), "a: 2\n");
  // Killed between keeping the old one and writing the new one: it is not kept twice.
  write_file_atomic(folder / "config-3.yaml", "a: 3\n");
  EXPECT_TRUE(run.write_config("a: 4\n"));
  EXPECT_FALSE(fs::exists(folder / "config-4.yaml"));
}

TEST(RunFolderTest, ScheduleIsKept) {
  const TempFolder folder("run");
  RunFolder run(folder.path());
  EXPECT_EQ(run.read_schedule(), std::nullopt);
  run.write_schedule("[1]");
  EXPECT_EQ(run.read_schedule(), "[1]");
}

TEST(RunFolderTest, AttemptsAreCountedAndDescribed) {
  const TempFolder folder("run");
  RunFolder run(folder.path());
  EXPECT_EQ(run.attempts(), 0);
  ::setenv("GATO_TEST_SECRET_TOKEN", "hunter2", 1);
  ::setenv("OMP_NUM_THREADS", "3", 1);
  EXPECT_EQ(run.begin_attempt({{"gato", "0.1.0"}}, {"gato-train", "--config", "x.yaml"}), 1);
  EXPECT_EQ(RunFolder(folder.path()).begin_attempt({{"gato", "0.1.1"}}, {"gato-train"}), 2);
  EXPECT_EQ(run.attempts(), 2);
  const std::string text = read_file(run.environment_path());
  EXPECT_EQ(text.find("hunter2"), std::string::npos) << "variables that are not on the list may be secret";
  const Json json = parse_json(text, "environment.json");
  const Json& first = json["attempts"][0];
  EXPECT_EQ(first["versions"]["gato"], "0.1.0");
  EXPECT_EQ(first["command"][2], "x.yaml");
  EXPECT_EQ(first["variables"]["OMP_NUM_THREADS"], "3");
  EXPECT_TRUE(first["host"].contains("logical_processors"));
  EXPECT_TRUE(first["host"].contains("compiler"));
  ::unsetenv("OMP_NUM_THREADS");
}

TEST(RunFolderTest, ADamagedEnvironmentFileIsPutAside) {
  const TempFolder folder("run");
  RunFolder run(folder.path());
  EXPECT_EQ(run.begin_attempt({}, {}), 1);
  const std::string whole = read_file(run.environment_path());
  MetricsWriter(run.metrics_path(), 7).write(1, 1, {{"a", 1}});
  int64_t damaged = 0;
  for (size_t size = 0; size < whole.size() - 2; size += 37) {
    std::ofstream(run.environment_path(), std::ios::trunc) << whole.substr(0, size);
    EXPECT_EQ(run.begin_attempt({}, {}), 8) << "numbers go on behind those in the metrics";
    EXPECT_TRUE(fs::exists(folder / cat("environment.json.damaged-", ++damaged)));
  }
  std::ofstream(run.environment_path(), std::ios::trunc)
      << "{\"format\": \"gato-environment\", \"version\": 1, \"attempts\": [{}]}";
  EXPECT_THROW(static_cast<void>(run.attempts()), DataError);
  EXPECT_EQ(run.begin_attempt({}, {}), 8);
}

}  // namespace
}  // namespace gato::run
