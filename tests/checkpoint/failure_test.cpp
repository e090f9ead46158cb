#include <cerrno>

#include "failure_scenario.h"

// The short form of failure_slow_test.cpp.
namespace gato::checkpoint {
namespace {

using testing_hooks::FileFault;
using testing_hooks::FileOperation;

TEST(CheckpointFailureTest, AFullDiskIsToldAndLosesNothing) {
  test::fail_each_call({"Next", 3, false}, FileOperation::kWrite, FileFault::Effect::kTornThenError, ENOSPC, true);
}

TEST(CheckpointFailureTest, AReadOnlyDiskIsToldAndLosesNothing) {
  const gato::test::TempFolder folder("checkpoint");
  static_cast<void>(test::save_small(folder.path(), 1));
  const testing_hooks::ScopedFileFault fault({.operation = FileOperation::kOpen,
                                              .nth = 1,
                                              .all_after = true,
                                              .error_number = EROFS,
                                              .path_contains = "step-00000002"});
  try {
    static_cast<void>(test::save_small(folder.path(), 2));
    FAIL();
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find("read-only"), std::string::npos) << error.what();
  }
  EXPECT_EQ(newest_valid(folder.path())->step, 1);
}

TEST(CheckpointFailureTest, AFileThatCannotBeReadIsADamage) {
  const gato::test::TempFolder folder("checkpoint");
  const CheckpointInfo first = test::save_small(folder.path(), 1);
  const CheckpointInfo second = test::save_small(folder.path(), 2);
  const testing_hooks::ScopedFileFault fault({.operation = FileOperation::kRead,
                                              .nth = 1,
                                              .all_after = true,
                                              .error_number = EIO,
                                              .path_contains = "step-00000002/state.json"});
  const std::vector<Damage> damages = verify_checkpoint(second.path);
  ASSERT_EQ(damages.size(), 1u);
  EXPECT_EQ(damages[0].file, "state.json");
  EXPECT_EQ(newest_valid(folder.path(), nullptr), first);
  EXPECT_THROW(static_cast<void>(Checkpoint(second.path).read("state.json")), IoError);
}

}  // namespace
}  // namespace gato::checkpoint
