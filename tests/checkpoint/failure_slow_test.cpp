#include <cerrno>

#include "failure_scenario.h"

// Every system call of a save and a prune fails once, alone and with all that follow.
namespace gato::checkpoint {
namespace {

using testing_hooks::FileFault;
using testing_hooks::FileOperation;

class CheckpointFailureSlowTest : public testing::TestWithParam<test::Scenario> {};

TEST_P(CheckpointFailureSlowTest, OpenFailing) {
  test::fail_each_call(GetParam(), FileOperation::kOpen, FileFault::Effect::kError, EMFILE, true);
}

TEST_P(CheckpointFailureSlowTest, WriteFailingOnce) {
  test::fail_each_call(GetParam(), FileOperation::kWrite, FileFault::Effect::kError, EIO, false);
}

TEST_P(CheckpointFailureSlowTest, WriteTornOnAFullDisk) {
  test::fail_each_call(GetParam(), FileOperation::kWrite, FileFault::Effect::kTornThenError, ENOSPC, true);
}

TEST_P(CheckpointFailureSlowTest, FsyncFailingOnce) {
  test::fail_each_call(GetParam(), FileOperation::kFsync, FileFault::Effect::kError, EIO, false);
}

TEST_P(CheckpointFailureSlowTest, FsyncFailingFromThenOn) {
  test::fail_each_call(GetParam(), FileOperation::kFsync, FileFault::Effect::kError, ENOSPC, true);
}

TEST_P(CheckpointFailureSlowTest, RenameFailingOnce) {
  test::fail_each_call(GetParam(), FileOperation::kRename, FileFault::Effect::kError, EIO, false);
}

TEST_P(CheckpointFailureSlowTest, RenameFailingFromThenOn) {
  test::fail_each_call(GetParam(), FileOperation::kRename, FileFault::Effect::kError, EROFS, true);
}

INSTANTIATE_TEST_SUITE_P(Scenarios, CheckpointFailureSlowTest, testing::ValuesIn(test::scenarios()),
                         test::scenario_name);

TEST(CheckpointWriteSlowTest, ShortWritesAreContinued) {
  const gato::test::TempFolder folder("checkpoint");
  const testing_hooks::ScopedFileFault fault(
      {.operation = FileOperation::kWrite, .nth = 1, .all_after = true, .effect = FileFault::Effect::kShortWrite});
  EXPECT_TRUE(test::is_as_saved(test::save(folder.path(), 1, 300'000), 300'000));
}

}  // namespace
}  // namespace gato::checkpoint
