#include "gato/run/step_log.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <cmath>
#include <limits>

#include "gato/core/text.h"
#include "support/file_faults.h"
#include "support/temp_folder.h"

namespace gato::run {
namespace {

TEST(StepLogTest, NumbersComeBackExactly) {
  const test::TempFolder folder;
  const Path path = folder / "steps.csv";
  const std::vector<StepRecord> records = {{1, 1, 0, 0.1, 1e-300, false},
                                           {1, 2, 512, std::numeric_limits<double>::infinity(), 3.0, true},
                                           {1, 3, 1024, 2.0 / 3.0, 1.0 / 7.0, false}};
  StepLogWriter writer(path);
  writer.flush();
  EXPECT_FALSE(std::filesystem::exists(path));
  writer.add(records[0]);
  writer.flush();
  writer.add(records[1]);
  writer.add(records[2]);
  writer.flush();
  EXPECT_EQ(read_steps(path), records);
  EXPECT_EQ(read_steps(path, 3).size(), 1u);
}

TEST(StepLogTest, LaterAttemptReplacesWhatWasComputedInVain) {
  const test::TempFolder folder;
  StepLogWriter writer(folder / "steps.csv");
  for (int64_t step = 1; step <= 5; ++step) writer.add({1, step, step, 1.0, 1, false});
  for (int64_t step = 3; step <= 4; ++step) writer.add({2, step, step, 2.0, 1, false});
  writer.flush();
  const auto steps = read_steps(folder / "steps.csv");
  ASSERT_EQ(steps.size(), 4u);
  EXPECT_EQ(steps[1].loss, 1);
  EXPECT_EQ(steps[2].loss, 2);
  EXPECT_EQ(steps[3].attempt, 2);
}

testing_hooks::FileFault full_disk(const Path& path) {
  return {.operation = testing_hooks::FileOperation::kWrite,
          .all_after = true,
          .effect = testing_hooks::FileFault::Effect::kTornThenError,
          .error_number = ENOSPC,
          .path_contains = path.string()};
}

TEST(StepLogTest, AFullDiskLosesNoStep) {
  const test::TempFolder folder;
  const Path path = folder / "steps.csv";
  StepLogWriter writer(path);
  std::vector<StepRecord> records;
  const auto add = [&](int64_t step) {
    records.push_back({1, step, 4 * step, 0.5, 1, false});
    writer.add(records.back());
    writer.flush();
  };
  {
    const testing_hooks::ScopedFileFault fault(full_disk(path));
    for (int64_t step = 1; step <= 3; ++step) add(step);
    EXPECT_TRUE(read_steps(path).empty());
  }
  add(4);
  EXPECT_EQ(read_steps(path), records);
  EXPECT_EQ(read_file(path).find("attempt,"), 0u) << "the header is not first";
}

TEST(WaitingLinesTest, WhatWaitsIsBoundedAndTheOldestGoFirst) {
  const test::TempFolder folder;
  const Path path = folder / "lines";
  {
    WaitingLines lines(path, "", 100);
    {
      const testing_hooks::ScopedFileFault fault(full_disk(path));
      for (int i = 0; i < 50; ++i) {
        lines.add(cat("line ", i, " of some"));  // 16 bytes or so
        lines.flush();
        EXPECT_LE(lines.num_waiting(), 7u);
      }
      lines.add(std::string(500, 'x'));  // more than may wait, but the only one
      EXPECT_EQ(lines.num_waiting(), 1u);
    }
    lines.add("last");
    EXPECT_EQ(lines.num_waiting(), 1u) << "the long one had to go";
  }
  EXPECT_EQ(read_file(path), "last\n") << "the destructor writes what waits";
}

TEST(StepLogTest, TornAndForeignLinesAreSkipped) {
  const test::TempFolder folder;
  const Path path = folder / "steps.csv";
  write_file_atomic(path,
                    "attempt,step\n1,1,0,0.5,nan,0\n1,2,4,0.2\n1,x,4,0.2,1,0\n1,3,8,0.2,1,7\n1,4,12,0.25,1,0\n1,5,");
  const auto steps = read_steps(path);
  ASSERT_EQ(steps.size(), 2u);
  EXPECT_TRUE(std::isnan(steps[0].gradient_norm));
  EXPECT_EQ(steps[1].step, 4);
  EXPECT_TRUE(read_steps(folder / "missing.csv").empty());
}

}  // namespace
}  // namespace gato::run
