#include "gato/run/progress_guard.h"

#include <gtest/gtest.h>

#include "gato/core/error.h"
#include "support/child_process.h"
#include "support/temp_folder.h"

namespace gato::run {
namespace {

class ProgressGuardTest : public testing::Test {
 protected:
  /// Whether the attempt failed for the last time.
  bool fail_at(int64_t attempt, int64_t step, int64_t most = 3) {
    ProgressGuard guard(folder_.path(), attempt, most);
    guard.working_on(step);
    try {
      guard.failed("the reason");
    } catch (const NoProgressError&) {
      return true;
    }
    return false;
  }
  test::TempFolder folder_;
};

TEST_F(ProgressGuardTest, TheThirdFailureAtOneStepIsTheLast) {
  EXPECT_FALSE(fail_at(1, 5));
  EXPECT_FALSE(fail_at(2, 5));
  EXPECT_TRUE(fail_at(3, 5));
  try {
    const ProgressGuard guard(folder_.path(), 4, 3);
    FAIL() << "began";
  } catch (const NoProgressError& error) {
    const std::string text = error.what();
    for (const char* part : {"3 attempts", "step 5", "the reason", "failures.json"}) {
      EXPECT_NE(text.find(part), std::string::npos) << text;
    }
  }
  EXPECT_THROW(ProgressGuard(folder_.path(), 5, 3), NoProgressError) << "until somebody removes the file";
  const ProgressGuard switched_off(folder_.path(), 6, 0);
}

TEST_F(ProgressGuardTest, AnotherStepOrAGoodEndBeginsAnew) {
  EXPECT_FALSE(fail_at(1, 5));
  EXPECT_FALSE(fail_at(2, 5));
  EXPECT_FALSE(fail_at(3, 6));
  EXPECT_FALSE(fail_at(4, 6));
  {
    ProgressGuard guard(folder_.path(), 5, 3);
    guard.working_on(6);
    guard.ended_well();
  }
  EXPECT_FALSE(fail_at(6, 6));
  EXPECT_FALSE(fail_at(7, 6));
  EXPECT_TRUE(fail_at(8, 6));
}

TEST_F(ProgressGuardTest, AKilledAttemptCountsAtTheStepItWorkedOn) {
  for (int64_t attempt = 1; attempt <= 3; ++attempt) {
    const auto end = test::run_in_child([&] {
      ProgressGuard guard(folder_.path(), attempt, 3);
      guard.working_on(6);
      guard.working_on(7);
      ::_exit(0);  // no destructor, as when killed
      return 0;
    });
    EXPECT_EQ(end.exit_code, 0);
  }
  EXPECT_THROW(ProgressGuard(folder_.path(), 4, 3), NoProgressError);
}

TEST_F(ProgressGuardTest, FailuresBeforeTheFirstStepAndWrongSettingsDoNotCount) {
  for (int64_t attempt = 1; attempt <= 4; ++attempt) {
    ProgressGuard guard(folder_.path(), attempt, 3);
    guard.failed("no data");
  }
  for (int64_t attempt = 5; attempt <= 8; ++attempt) {
    ProgressGuard guard(folder_.path(), attempt, 3);
    guard.working_on(5);
    guard.leave();
  }
  EXPECT_FALSE(fail_at(9, 5));
}

TEST_F(ProgressGuardTest, ADamagedRecordIsSetAside) {
  EXPECT_FALSE(fail_at(1, 5));
  write_file_atomic(folder_ / "failures.json", "{");
  EXPECT_FALSE(fail_at(2, 5));
  EXPECT_TRUE(std::filesystem::exists(folder_ / "failures.json.damaged"));
}

TEST(FailureRecordTest, ComesBackAndRefusesDamage) {
  FailureRecord record;
  record.open_attempt = 4;
  record.failures = {{2, 5, 1.5, "one"}, {3, 5, 2.5, "two"}};
  const std::string text = to_json(record);
  EXPECT_EQ(parse_failure_record(text, "x"), record);
  for (size_t length = 0; length + 2 < text.size(); ++length) {
    EXPECT_THROW(static_cast<void>(parse_failure_record(text.substr(0, length), "x")), DataError) << length;
  }
  for (size_t at = 0; at < text.size(); ++at) {
    std::string damaged = text;
    damaged[at] = static_cast<char>(static_cast<unsigned char>(damaged[at]) ^ 0x04U);
    try {
      static_cast<void>(parse_failure_record(damaged, "x"));
    } catch (const DataError&) {
    }
  }
}

}  // namespace
}  // namespace gato::run
