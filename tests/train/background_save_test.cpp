#include "train/background_save.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <map>

#include "gato/core/error.h"
#include "gato/core/log.h"
#include "small_state.h"
#include "support/file_faults.h"
#include "support/temp_folder.h"

namespace gato::train {
namespace {

using checkpoint::step_name;
using test::request_of;
using test::SmallState;
using testing_hooks::FileFault;
using testing_hooks::FileOperation;

SaverOptions options_for(const Path& folder, SaveRank place = {}, bool background = true) {
  SaverOptions options;
  options.folder = folder;
  options.place = place;
  options.tag = checkpoint::process_tag();
  options.background = background;
  return options;
}

std::string way_name(const testing::TestParamInfo<bool>& info) { return info.param ? "Background" : "AtOnce"; }

class BackgroundSaveTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override { log::set_level(log::Level::kError); }
  /// What the checkpoint of `step` holds.
  [[nodiscard]] bool holds(int64_t step, double number, uint64_t seed) const {
    SmallState loaded(77), expected(seed);
    const TrainingState state = load_checkpoint(folder_ / step_name(step), loaded.model, loaded.optimizer);
    return state.step == step && loaded.has(number) &&
           loaded.model.store().values().equal(expected.model.store().values());
  }
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> found;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path()))
      found.push_back(entry.path().filename().string());
    std::sort(found.begin(), found.end());
    return found;
  }
  gato::test::TempFolder folder_;
};

TEST_P(BackgroundSaveTest, WhatIsSavedIsTheStateWhenItBegan) {
  SmallState state(1);
  state.fill(5);
  BackgroundSaver saver(state.model.store(), state.optimizer, options_for(folder_.path(), {}, GetParam()));
  EXPECT_FALSE(saver.busy());
  saver.start(request_of(3));
  if (GetParam()) {
    state.fill(6);  // training goes on
    state.model.store().values().add_(1);
  }
  const auto outcome = saver.wait();
  ASSERT_TRUE(outcome && outcome->saved) << outcome->problem;
  EXPECT_EQ(outcome->step, 3);
  EXPECT_LE(outcome->stall_seconds, outcome->seconds);
  EXPECT_FALSE(saver.wait());
  EXPECT_TRUE(holds(3, 5, 1));
  EXPECT_EQ(names(), (std::vector<std::string>{"latest", "step-00000003"}));
}

TEST_P(BackgroundSaveTest, OneAtATimeAndEveryOutcomeIsGivenOnce) {
  SmallState state(1);
  BackgroundSaver saver(state.model.store(), state.optimizer, options_for(folder_.path(), {}, GetParam()));
  for (const int64_t step : {1, 2, 3}) {
    state.fill(static_cast<double>(step));
    saver.start(request_of(step));
  }
  std::vector<int64_t> steps;
  while (const auto outcome = saver.wait()) {
    EXPECT_TRUE(outcome->saved) << outcome->problem;
    steps.push_back(outcome->step);
  }
  EXPECT_EQ(steps, (std::vector<int64_t>{1, 2, 3}));
  EXPECT_FALSE(saver.busy());
  for (const int64_t step : {1, 2, 3}) EXPECT_TRUE(holds(step, static_cast<double>(step), 1));
}

TEST_P(BackgroundSaveTest, AFailedSaveIsToldAndTheNextOneSucceeds) {
  SmallState state(1);
  state.fill(2);
  BackgroundSaver saver(state.model.store(), state.optimizer, options_for(folder_.path(), {}, GetParam()));
  {
    const testing_hooks::ScopedFileFault fault({.operation = FileOperation::kFsync,
                                                .nth = 1,
                                                .all_after = true,
                                                .error_number = EIO,
                                                .path_contains = folder_.path().string()});
    for (int failure = 0; failure < 2; ++failure) {
      saver.start(request_of(1));
      const auto outcome = saver.wait();
      ASSERT_TRUE(outcome && !outcome->saved);
      EXPECT_NE(outcome->problem.find(folder_.path().string()), std::string::npos) << outcome->problem;
    }
  }
  EXPECT_TRUE(names().empty()) << names().front();
  saver.start(request_of(1));
  EXPECT_TRUE(saver.wait()->saved);
  EXPECT_TRUE(holds(1, 2, 1));
}

TEST_P(BackgroundSaveTest, WhatFollowsACommitMayFail) {
  SmallState state(1);
  auto options = options_for(folder_.path(), {}, GetParam());
  int calls = 0;
  options.committed = [&] {
    EXPECT_TRUE(std::filesystem::exists(folder_ / step_name(++calls)));
    throw DataError("the list of pins is damaged");
  };
  BackgroundSaver saver(state.model.store(), state.optimizer, options);
  for (const int64_t step : {1, 2}) {
    saver.start(request_of(step));
    EXPECT_TRUE(saver.wait()->saved);
  }
  EXPECT_EQ(calls, 2);
  SaveRequest hurried = request_of(3);
  hurried.hurried = true;
  saver.start(hurried);
  EXPECT_TRUE(saver.wait()->saved);
  EXPECT_EQ(calls, 2) << "there is no time for more";
}

INSTANTIATE_TEST_SUITE_P(Ways, BackgroundSaveTest, testing::Values(true, false), way_name);

/// Ranks of a run with a divided optimizer, in one process.
class RanksTest : public BackgroundSaveTest {
 protected:
  using CheckSpace = std::function<void(const Path&, uint64_t)>;
  void start_ranks(int64_t size, const std::function<CheckSpace(int64_t)>& check_space = {}) {
    savers_.clear();
    states_.clear();
    const SmallState any(1);
    for (int64_t rank = 0; rank < size; ++rank) {
      states_.push_back(std::make_unique<SmallState>(1, test::part_of_buckets(any.model.store(), rank, size)));
      SaverOptions options = options_for(folder_.path(), {rank, size}, GetParam());
      if (check_space) options.check_space = check_space(rank);
      savers_.push_back(
          std::make_unique<BackgroundSaver>(states_.back()->model.store(), states_.back()->optimizer, options));
    }
  }
  std::vector<SaveOutcome> save(int64_t step) {
    for (size_t r = savers_.size(); r-- > 0;) {  // rank 0 last: others may come before it
      states_[r]->fill(static_cast<double>(step));
      savers_[r]->start(request_of(step));
    }
    if (savers_.size() == 1) return {*savers_[0]->wait()};  // which commits by itself
    std::vector<std::string> parts;
    for (const auto& saver : savers_) parts.push_back(saver->part());
    std::vector<SaveOutcome> outcomes;
    for (const auto& saver : savers_) {
      EXPECT_TRUE(saver->written());
      saver->commit(parts);
      outcomes.push_back(*saver->wait());
    }
    return outcomes;
  }
  std::vector<std::unique_ptr<SmallState>> states_;
  std::vector<std::unique_ptr<BackgroundSaver>> savers_;
};

TEST_P(RanksTest, AnyNumberOfProcessesReadsWhatAnyOtherWrote) {
  int64_t step = 0;
  for (const int64_t writers : {2, 3, 4, 1}) {
    start_ranks(writers);
    for (const SaveOutcome& outcome : save(++step)) EXPECT_TRUE(outcome.saved) << outcome.problem;
    EXPECT_TRUE(holds(step, static_cast<double>(step), 1)) << "by one that has everything";
    for (const int64_t readers : {1, 2, 3, 4}) {
      const SmallState any(1);
      for (int64_t rank = 0; rank < readers; ++rank) {
        SmallState loaded(5, test::part_of_buckets(any.model.store(), rank, readers));
        const TrainingState state = load_checkpoint(folder_ / step_name(step), loaded.model, loaded.optimizer);
        EXPECT_EQ(state.processes, writers);
        EXPECT_TRUE(loaded.has(static_cast<double>(step))) << writers << " wrote, rank " << rank << " of " << readers;
      }
    }
  }
}

TEST_P(RanksTest, WhenOneRankFailsThereIsNoCheckpointAndAllAreTold) {
  start_ranks(3);
  {
    const testing_hooks::ScopedFileFault fault({.operation = FileOperation::kWrite,
                                                .nth = 1,
                                                .error_number = ENOSPC,
                                                .path_contains = "first_moment-00002-of-00003"});
    for (const SaveOutcome& outcome : save(1)) {
      EXPECT_FALSE(outcome.saved);
      EXPECT_NE(outcome.problem.find("rank 2: "), std::string::npos) << outcome.problem;
    }
  }
  EXPECT_TRUE(names().empty());
  for (const SaveOutcome& outcome : save(1)) EXPECT_TRUE(outcome.saved) << outcome.problem;
  EXPECT_TRUE(holds(1, 1, 1));
}

TEST_P(RanksTest, WhenRank0HasNoRoomNothingOfTheOthersStays) {
  std::map<int64_t, uint64_t> asked;
  start_ranks(3, [&](int64_t rank) {
    return [&asked, rank](const Path&, uint64_t bytes) {
      asked[rank] = bytes;
      if (rank == 0) throw IoError("no room", ENOSPC);
    };
  });
  for (const SaveOutcome& outcome : save(1)) {
    EXPECT_FALSE(outcome.saved);
    EXPECT_EQ(outcome.problem, "rank 0: no room");
  }
  EXPECT_TRUE(names().empty()) << names().front();
  const auto elements = static_cast<uint64_t>(states_[0]->model.store().values().numel());
  EXPECT_EQ(asked[0], 12 * elements) << "of the whole checkpoint";
  EXPECT_EQ(asked[1], 8 * static_cast<uint64_t>(states_[1]->optimizer.first_moment.numel()));
}

TEST_P(RanksTest, WhenRank0CannotBeginNothingOfTheOthersStays) {
  start_ranks(2);
  states_[1]->fill(1);
  savers_[1]->start(request_of(1));
  const std::string part = savers_[1]->part();
  states_[0]->fill(1);
  {
    const testing_hooks::ScopedFileFault fault({.operation = FileOperation::kOpen,
                                                .nth = 1,
                                                .all_after = true,
                                                .error_number = EMFILE,
                                                .path_contains = ".tmp-"});
    savers_[0]->start(request_of(1));
    EXPECT_NE(savers_[0]->part().find("failed"), std::string::npos);
  }
  savers_[0]->commit({savers_[0]->part(), part});
  EXPECT_FALSE(savers_[0]->wait()->saved);
  EXPECT_TRUE(names().empty()) << names().front();
}

TEST(SaveOutcomeTest, ComesBackFromItsText) {
  const SaveOutcome outcome = {.step = 7,
                               .tokens = 99,
                               .saved = false,
                               .problem = "rank 2: \"disk\"\nfull",
                               .stall_seconds = 0.25,
                               .seconds = 3.5};
  EXPECT_EQ(parse_save_outcome(to_json(outcome)), outcome);
  EXPECT_THROW((void)parse_save_outcome(""), DataError);
  EXPECT_THROW((void)parse_save_outcome("{\"step\": -1}"), DataError);
}

TEST_P(RanksTest, WhatIsMissingOrThereTwiceIsNamed) {
  start_ranks(2);
  for (const SaveOutcome& outcome : save(1)) ASSERT_TRUE(outcome.saved);
  const checkpoint::Checkpoint whole(folder_ / step_name(1));
  const auto without = [&](const std::string& left_out, const std::string& again) {
    const Path other = folder_ / "other";
    std::filesystem::remove_all(other);
    checkpoint::CheckpointWriter writer(other, 1);
    for (const checkpoint::FileEntry& file : whole.manifest().files) {
      if (file.name == left_out) continue;
      writer.add_file(file.name, read_file(whole.file(file.name)));
      if (file.name == again) writer.add_file("optimizer-first_moment-copy.safetensors", read_file(whole.file(again)));
    }
    SmallState loaded(5);
    try {
      static_cast<void>(load_checkpoint(writer.commit().path, loaded.model, loaded.optimizer));
    } catch (const CheckpointError& error) {
      return std::string(error.what());
    }
    return std::string("it was loaded");
  };
  EXPECT_NE(without("optimizer-first_moment-00001-of-00002.safetensors", "").find("do not fit the model"),
            std::string::npos);
  EXPECT_NE(without("", "optimizer-first_moment-00001-of-00002.safetensors").find("not there exactly once"),
            std::string::npos);
  EXPECT_EQ(without("", ""), "it was loaded");
}

INSTANTIATE_TEST_SUITE_P(Ways, RanksTest, testing::Values(true, false), way_name);

}  // namespace
}  // namespace gato::train
