#include "gato/run/metrics.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cmath>
#include <fstream>
#include <limits>
#include <thread>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/json.h"
#include "support/file_faults.h"
#include "support/temp_folder.h"

namespace gato::run {
namespace {

using gato::test::TempFolder;
using Series = std::vector<std::pair<int64_t, double>>;

void append(const Path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary | std::ios::app).write(text.data(), static_cast<std::streamsize>(text.size()));
}

TEST(MetricsTest, RoundTrips) {
  const TempFolder folder("metrics");
  const Path path = folder / "run" / "metrics.jsonl";
  const MetricsWriter writer(path, 1);
  writer.write(1, 1024, {{"train/loss/control", 3.25}, {"train/lr", 1e-300}});
  writer.write(2, 2048, {{"train/loss/control", -0.1}});
  writer.write(2, 2048, {{"validation/loss", 0.30000000000000004}});
  const Metrics metrics = read_metrics(path);
  ASSERT_EQ(metrics.points.size(), 2u);
  EXPECT_EQ(metrics.points[0].step, 1);
  EXPECT_EQ(metrics.points[0].attempt, 1);
  EXPECT_EQ(metrics.points[0].tokens, 1024);
  EXPECT_GT(metrics.points[0].time, 1.7e9);
  EXPECT_EQ(metrics.series("train/loss/control"), (Series{{1, 3.25}, {2, -0.1}}));
  EXPECT_EQ(metrics.series("validation/loss"), (Series{{2, 0.30000000000000004}})) << "lines of one step are joined";
  EXPECT_EQ(metrics.series("train/lr"), (Series{{1, 1e-300}}));
  EXPECT_EQ(metrics.names(), (std::vector<std::string>{"train/loss/control", "train/lr", "validation/loss"}));
  EXPECT_EQ(metrics.damaged_lines, 0);
}

TEST(MetricsTest, LinesAreAsDocumented) {
  const TempFolder folder("metrics");
  MetricsWriter(folder / "m", 3).write(7, 9, {{"b", 2}, {"a", 1.5}});
  const std::string line = read_file(folder / "m");
  EXPECT_EQ(line.find("{\"time\":1"), 0u) << line;
  EXPECT_NE(line.find(",\"attempt\":3,\"step\":7,\"tokens\":9,\"a\":1.5,\"b\":2.0}\n"), std::string::npos) << line;
}

TEST(MetricsTest, NonFiniteNumbersAreNull) {
  const TempFolder folder("metrics");
  const double infinity = std::numeric_limits<double>::infinity();
  MetricsWriter(folder / "m", 1).write(1, 1, {{"a", std::nan("")}, {"b", infinity}, {"c", -infinity}, {"d", 1}});
  EXPECT_NE(read_file(folder / "m").find("\"a\":null,\"b\":null,\"c\":null,\"d\":1.0"), std::string::npos);
  const Metrics metrics = read_metrics(folder / "m");
  EXPECT_TRUE(std::isnan(metrics.points.at(0).values.at("b")));
  EXPECT_TRUE(metrics.series("a").empty());
  EXPECT_EQ(metrics.series("d").size(), 1u);
}

TEST(MetricsTest, ALaterAttemptReplacesWhatItComputesAgain) {
  const TempFolder folder("metrics");
  const MetricsWriter first(folder / "m", 1);
  for (int64_t step = 1; step <= 6; ++step) first.write(step, step, {{"loss", 10.0 + static_cast<double>(step)}});
  first.write(4, 4, {{"validation", 1}});
  first.write(6, 6, {{"validation", 2}});
  // Killed at step 6; resumed from the checkpoint of step 3.
  const MetricsWriter second(folder / "m", 2);
  second.write(4, 4, {{"loss", 24}});
  EXPECT_EQ(read_metrics(folder / "m").series("loss"), (Series{{1, 11}, {2, 12}, {3, 13}, {4, 24}}));
  second.write(5, 5, {{"loss", 25}});
  const Metrics metrics = read_metrics(folder / "m");
  EXPECT_EQ(metrics.series("loss"), (Series{{1, 11}, {2, 12}, {3, 13}, {4, 24}, {5, 25}}));
  EXPECT_EQ(metrics.series("validation"), (Series{{4, 1}})) << "the same step keeps what was not written again";
  EXPECT_EQ(metrics.points[3].attempt, 2);
}

TEST(MetricsTest, ToleratesTornAndDamagedLines) {
  const TempFolder folder("metrics");
  const Path path = folder / "m";
  EXPECT_TRUE(read_metrics(path).points.empty());
  MetricsWriter(path, 1).write(1, 1, {{"a", 1}});
  MetricsWriter(path, 1).write(2, 2, {{"a", 2}});
  const std::string whole = read_file(path);
  const size_t second_line = whole.find('\n') + 1;
  for (size_t size = second_line; size < whole.size() - 2; ++size) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << whole.substr(0, size);
    EXPECT_EQ(read_metrics(path).points.size(), 1u) << size;
    EXPECT_EQ(read_metrics(path).damaged_lines, size == second_line ? 0 : 1);
  }
  MetricsWriter(path, 2).write(3, 3, {{"a", 3}});
  EXPECT_EQ(read_metrics(path).series("a"), (Series{{1, 1}, {3, 3}})) << "a torn line does not swallow the next one";
  append(path,
         "\n\n[]\n{}\n{\"time\":1,\"attempt\":1,\"step\":-1,\"tokens\":0}\n{\"time\":1,\"attempt\":1,\"step\":1,"
         "\"tokens\":0,"
         "\"a\":\"text\"}\nnot json\n");
  const Metrics metrics = read_metrics(path);
  EXPECT_EQ(metrics.points.size(), 2u);
  EXPECT_EQ(metrics.damaged_lines, 6);
}

TEST(MetricsTest, FlippedBytesNeverCrash) {
  const TempFolder folder("metrics");
  MetricsWriter(folder / "m", 1).write(1, 1, {{"loss", 1.5}, {"b", std::nan("")}});
  const std::string line = read_file(folder / "m");
  for (size_t i = 0; i < line.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = line;
      flipped[i] = static_cast<char>(flipped[i] ^ (1 << bit));
      std::ofstream(folder / "flipped", std::ios::binary | std::ios::app) << flipped;
    }
  }
  static_cast<void>(read_metrics(folder / "flipped"));
}

TEST(MetricsTest, RefusesBadNames) {
  const TempFolder folder("metrics");
  const MetricsWriter writer(folder / "m", 1);
  for (const char* name : {"", "time", "attempt", "step", "tokens", "a b", "a\"", "\xc3\xa9", "a\n"}) {
    EXPECT_THROW(writer.write(1, 1, {{name, 1}}), ContractError) << name;
  }
  EXPECT_THROW(writer.write(-1, 1, {}), ContractError);
  EXPECT_FALSE(std::filesystem::exists(folder / "m")) << "nothing is written of a refused point";
}

TEST(MetricsTest, WritersOfManyThreadsKeepLinesWhole) {
  const TempFolder folder("metrics");
  const MetricsWriter writer(folder / "m", 1);
  std::vector<std::thread> threads;
  for (int64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&writer, t] {
      for (int64_t i = 0; i < 100; ++i) writer.write(t * 100 + i, 0, {{"a", static_cast<double>(i)}});
    });
  }
  for (std::thread& thread : threads) thread.join();
  const Metrics metrics = read_metrics(folder / "m");
  EXPECT_EQ(metrics.points.size(), 400u);
  EXPECT_EQ(metrics.damaged_lines, 0);
}

TEST(MetricsTest, AFullDiskKeepsLinesWaitingAndLosesNone) {
  const TempFolder folder("metrics");
  const MetricsWriter writer(folder / "m", 1);
  writer.write(1, 1, {{"a", 1}});
  {
    const testing_hooks::ScopedFileFault fault({.operation = testing_hooks::FileOperation::kWrite,
                                                .effect = testing_hooks::FileFault::Effect::kTornThenError,
                                                .error_number = ENOSPC});
    writer.write(2, 2, {{"a", 2}});
    EXPECT_EQ(read_metrics(folder / "m").series("a"), (Series{{1, 1}}));
  }
  writer.write(3, 3, {{"a", 3}});
  EXPECT_EQ(read_metrics(folder / "m").series("a"), (Series{{1, 1}, {2, 2}, {3, 3}})) << "a line that waited is lost";
  EXPECT_EQ(read_metrics(folder / "m").damaged_lines, 0);
}

}  // namespace
}  // namespace gato::run
