#include "gato/run/step_log.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

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
