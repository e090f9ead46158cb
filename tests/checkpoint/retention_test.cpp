#include "gato/checkpoint/retention.h"

#include <gtest/gtest.h>

#include "gato/core/error.h"
#include "small_checkpoint.h"
#include "support/temp_folder.h"

namespace gato::checkpoint {
namespace {

namespace fs = std::filesystem;
using gato::test::TempFolder;

class RetentionTest : public testing::Test {
 protected:
  void save(std::initializer_list<int64_t> steps) {
    for (const int64_t step : steps) static_cast<void>(test::save_one_file(folder_.path(), step));
  }
  [[nodiscard]] std::vector<int64_t> steps() const {
    std::vector<int64_t> found;
    for (const CheckpointInfo& info : list_checkpoints(folder_.path())) found.push_back(info.step);
    return found;
  }
  TempFolder folder_;
};

TEST_F(RetentionTest, TheBestByScoreStay) {
  save({10, 20, 30, 40, 50, 60});
  const Retention retention{.keep_last = 2, .keep_best = 2, .scores = {{10, 3.0}, {20, 9.0}, {30, 9.0}, {40, 1.0}}};
  static_cast<void>(prune(folder_.path(), retention));
  EXPECT_EQ(steps(), (std::vector<int64_t>{60, 50, 30, 20}));
}

TEST_F(RetentionTest, OfEqualScoresTheNewestStays) {
  save({10, 20, 30, 40, 50});
  static_cast<void>(prune(folder_.path(), {.keep_best = 1, .scores = {{10, 5.0}, {20, 5.0}}}));
  EXPECT_EQ(steps(), (std::vector<int64_t>{50, 40, 20}));
}

TEST_F(RetentionTest, AScoreOfADamagedOrDeletedCheckpointCountsForNothing) {
  save({10, 20, 30, 40});
  test::flip_byte(folder_ / "step-00000010" / "MANIFEST.json", 3);
  static_cast<void>(prune(folder_.path(), {.keep_best = 1, .scores = {{5, 99.0}, {10, 9.0}, {20, 1.0}}}));
  EXPECT_EQ(steps(), (std::vector<int64_t>{40, 30, 20, 10})) << "20 is the best that is left, 10 is damaged and stays";
}

TEST_F(RetentionTest, PinnedAndUsedOnesStay) {
  save({10, 20, 30, 40, 50});
  EXPECT_TRUE(pin(folder_.path(), 10));
  EXPECT_FALSE(pin(folder_.path(), 10));
  static_cast<void>(prune(folder_.path(), {.in_use = [] { return std::set<int64_t>{20}; }}));
  EXPECT_EQ(steps(), (std::vector<int64_t>{50, 40, 20, 10}));
  EXPECT_TRUE(unpin(folder_.path(), 10));
  EXPECT_FALSE(unpin(folder_.path(), 10));
  static_cast<void>(prune(folder_.path(), {}));
  EXPECT_EQ(steps(), (std::vector<int64_t>{50, 40}));
}

TEST_F(RetentionTest, WhatIsTakenIntoUseMeanwhileStays) {
  save({10, 20, 30, 40});
  int asked = 0;  // twice for each of the two in the two plans, before the first deletion
  const auto in_use = [&] { return ++asked > 4 ? std::set<int64_t>{20} : std::set<int64_t>{}; };
  static_cast<void>(prune(folder_.path(), {.in_use = in_use}));
  EXPECT_EQ(steps(), (std::vector<int64_t>{40, 30, 20}));
}

TEST_F(RetentionTest, ThePlanGivesReasonsAndChangesNothing) {
  save({10, 20, 25, 30, 40, 50});
  static_cast<void>(pin(folder_.path(), 25));
  test::flip_byte(folder_ / "step-00000040" / "state.json", 2);
  const auto plan = plan_retention(folder_.path(), {.keep_every = 20, .keep_best = 1, .scores = {{10, 1.5}}});
  std::vector<std::string> lines;
  for (const RetentionDecision& decision : plan)
    lines.push_back(
        cat(decision.checkpoint.step, decision.keep ? " kept: " : " deleted", decision.reason.substr(0, 17)));
  EXPECT_EQ(lines,
            (std::vector<std::string>{"50 kept: newest", "40 kept: damaged: state.js", "30 kept: newest",
                                      "25 kept: pinned", "20 kept: step divisible by", "10 kept: best score 1.5"}));
  EXPECT_EQ(steps().size(), 6u);
}

TEST_F(RetentionTest, ALineThatIsNoCheckpointDeletesNothing) {
  save({10, 20, 30});
  for (const char* text : {"step-10", "10", "step-00000010 x", "\x01", "step-00000010,step-00000020"}) {
    write_file_atomic(folder_ / kPinsName, cat("# mine\n\n", text, "\n"));
    try {
      static_cast<void>(prune(folder_.path(), {}));
      ADD_FAILURE() << text << " was taken";
    } catch (const DataError& error) {
      EXPECT_NE(std::string(error.what()).find("pinned:3"), std::string::npos) << error.what();
    }
    EXPECT_EQ(steps().size(), 3u);
  }
  write_file_atomic(folder_ / kPinsName, " step-00000010 \n# mine\n");
  static_cast<void>(prune(folder_.path(), {}));
  EXPECT_EQ(steps().size(), 3u);
  EXPECT_TRUE(unpin(folder_.path(), 10));
  EXPECT_EQ(read_file(folder_ / kPinsName), "# mine\n");
}

TEST_F(RetentionTest, OnlyWhatIsThereIsPinned) {
  EXPECT_THROW(pin(folder_.path(), 10), ConfigError);
  EXPECT_TRUE(read_pins(folder_.path()).empty());
}

}  // namespace
}  // namespace gato::checkpoint
