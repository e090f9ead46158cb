// What file functions do when the system refuses: full disks, failing disks, read-only folders, kills.
#include <grp.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <functional>

#include "core/file_faults.h"
#include "gato/core/error.h"
#include "gato/core/file.h"
#include "support/child_process.h"
#include "support/temp_folder.h"

namespace gato {
namespace {

using test::TempFolder;
using testing_hooks::FileFault;
using testing_hooks::FileOperation;
using testing_hooks::ScopedFileFault;

std::string slurp(const Path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

size_t num_entries(const Path& folder) {
  return static_cast<size_t>(
      std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator()));
}

std::string io_message(const std::function<void()>& call, int* error_number = nullptr) {
  try {
    call();
  } catch (const IoError& error) {
    if (error_number != nullptr) *error_number = error.error_number();
    return error.what();
  }
  return "";
}

const std::string kOld = "the old content";
const std::string kNew(600'000, 'n');  // more than one write

/// One way in which one step of replacing a file fails.
struct FailureCase {
  const char* name;
  FileOperation operation;
  FileFault::Effect effect;
  int error_number;
};

std::ostream& operator<<(std::ostream& out, const FailureCase& value) { return out << value.name; }

class ReplaceFailureTest : public testing::TestWithParam<FailureCase> {
 protected:
  [[nodiscard]] static FileFault fault(int64_t nth) {
    return {.operation = GetParam().operation,
            .nth = nth,
            .effect = GetParam().effect,
            .error_number = GetParam().error_number};
  }
};

TEST_P(ReplaceFailureTest, EveryFailingStepIsReportedAndTheOldFileStaysWhole) {
  const TempFolder folder("faults");
  const Path path = folder / "a";
  write_file_atomic(path, kOld);
  int64_t num_steps = 0;
  {
    const ScopedFileFault counting({.operation = GetParam().operation, .nth = 0});
    write_file_atomic(path, kNew);
    num_steps = testing_hooks::count_file_operations(GetParam().operation);
  }
  ASSERT_GE(num_steps, 1);
  for (int64_t nth = 1; nth <= num_steps; ++nth) {
    write_file_atomic(path, kOld);
    const ScopedFileFault armed(fault(nth));
    int error_number = 0;
    const std::string message = io_message([&] { write_file_atomic(path, kNew); }, &error_number);
    EXPECT_NE(message.find(folder.path().string()), std::string::npos) << "step " << nth << ": " << message;
    EXPECT_EQ(error_number, GetParam().error_number);
    // Only making the rename durable comes after it: then the whole new file is there.
    const bool renamed = GetParam().operation == FileOperation::kFsync || GetParam().operation == FileOperation::kOpen;
    EXPECT_EQ(slurp(path) == kNew, renamed && nth == num_steps) << "step " << nth;
    if (slurp(path) != kNew) {
      EXPECT_EQ(slurp(path), kOld) << "step " << nth;
    }
    EXPECT_EQ(num_entries(folder.path()), 1u) << "a temporary file was left behind at step " << nth;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Steps, ReplaceFailureTest,
    testing::Values(FailureCase{"WriteFails", FileOperation::kWrite, FileFault::Effect::kError, EIO},
                    FailureCase{"DiskIsFull", FileOperation::kWrite, FileFault::Effect::kError, ENOSPC},
                    FailureCase{"DiskFillsInsideAWrite", FileOperation::kWrite, FileFault::Effect::kTornThenError,
                                ENOSPC},
                    FailureCase{"FsyncFails", FileOperation::kFsync, FileFault::Effect::kError, EIO},
                    FailureCase{"FsyncFindsTheDiskFull", FileOperation::kFsync, FileFault::Effect::kError, ENOSPC},
                    FailureCase{"RenameFails", FileOperation::kRename, FileFault::Effect::kError, EIO},
                    FailureCase{"OpenFails", FileOperation::kOpen, FileFault::Effect::kError, EMFILE}),
    [](const auto& tested) { return std::string(tested.param.name); });

TEST(FileFailureTest, ShortAndInterruptedWritesAreContinued) {
  const TempFolder folder("faults");
  {
    const ScopedFileFault armed({.all_after = true, .effect = FileFault::Effect::kShortWrite});
    write_file_atomic(folder / "a", kNew);
    append_line(folder / "lines", std::string(1000, 'x'));
    EXPECT_GT(testing_hooks::count_file_operations(FileOperation::kWrite), 20);
  }
  EXPECT_EQ(slurp(folder / "a"), kNew);
  EXPECT_EQ(slurp(folder / "lines"), std::string(1000, 'x') + "\n");
  for (const FileOperation operation :
       {FileOperation::kWrite, FileOperation::kFsync, FileOperation::kOpen, FileOperation::kRead}) {
    const ScopedFileFault armed({.operation = operation, .error_number = EINTR});
    write_file_atomic(folder / "b", kNew);
    EXPECT_EQ(read_file(folder / "b"), kNew);
  }
}

TEST(FileFailureTest, WriteErrorsAreReportedFromTheCallThatMetThem) {
  const TempFolder folder("faults");
  OutputFile file(folder / "a");
  const ScopedFileFault armed({.error_number = ENOSPC});
  const std::string message = io_message([&] { file.write(kNew); });
  EXPECT_NE(message.find((folder / "a").string()), std::string::npos) << message;
  EXPECT_NE(message.find("No space left"), std::string::npos) << message;
  EXPECT_NE(message.find("free some space"), std::string::npos) << message;
}

TEST(FileFailureTest, ReadErrorsNameFileAndOffset) {
  const TempFolder folder("faults");
  write_file_atomic(folder / "a", kNew);
  const InputFile file(folder / "a");
  std::array<std::byte, 10> piece{};
  const ScopedFileFault armed({.operation = FileOperation::kRead, .all_after = true});
  const std::string message = io_message([&] { file.read_at(7, piece); });
  EXPECT_NE(message.find((folder / "a").string()), std::string::npos) << message;
  EXPECT_NE(message.find("offset 7"), std::string::npos) << message;
  EXPECT_NE(io_message([&] { static_cast<void>(read_file(folder / "a")); }), "");
  EXPECT_NE(io_message([&] { static_cast<void>(digest128_of_file(folder / "a")); }), "");
}

TEST(FileFailureTest, FaultsMayBeLimitedToPaths) {
  const TempFolder folder("faults");
  const ScopedFileFault armed({.operation = FileOperation::kRename, .all_after = true, .path_contains = "victim"});
  EXPECT_NO_THROW(write_file_atomic(folder / "other", "x"));
  EXPECT_THROW(write_file_atomic(folder / "victim", "x"), IoError);
}

TEST(FileFailureTest, FailedAppendLeavesTheLinesBeforeItAlone) {
  const TempFolder folder("faults");
  const Path path = folder / "log";
  append_line(path, "first");
  for (const FileFault::Effect effect : {FileFault::Effect::kError, FileFault::Effect::kTornThenError}) {
    const ScopedFileFault armed({.effect = effect, .error_number = ENOSPC});
    EXPECT_NE(io_message([&] { append_line(path, "second, which is longer"); }).find(path.string()), std::string::npos);
    EXPECT_EQ(slurp(path), "first\n");
  }
  {
    const ScopedFileFault armed({.operation = FileOperation::kFsync});
    EXPECT_NE(io_message([&] { append_line(path, "second", true); }).find("fsync"), std::string::npos);
  }
  append_line(path, "third");
  EXPECT_EQ(slurp(path), "first\nthird\n");
}

TEST(FileFailureTest, FailedFsyncOfFoldersIsReportedUnlessTheyHaveNone) {
  const TempFolder folder("faults");
  {
    const ScopedFileFault armed({.operation = FileOperation::kFsync, .error_number = EIO});
    EXPECT_NE(io_message([&] { fsync_folder(folder.path()); }).find("fsync the folder"), std::string::npos);
  }
  const ScopedFileFault armed({.operation = FileOperation::kFsync, .error_number = EINVAL});
  EXPECT_NO_THROW(fsync_folder(folder.path()));
}

TEST(FileFailureTest, FsyncOfOthersFilesIsReported) {
  const TempFolder folder("faults");
  write_file_atomic(folder / "a", "x");
  EXPECT_NO_THROW(fsync_file(folder / "a"));
  EXPECT_THROW(fsync_file(folder / "none"), IoError);
  const ScopedFileFault armed({.operation = FileOperation::kFsync});
  EXPECT_NE(io_message([&] { fsync_file(folder / "a"); }).find((folder / "a").string()), std::string::npos);
}

class KillTest : public testing::TestWithParam<FileOperation> {};

TEST_P(KillTest, AtAnyStepLeavesTheOldOrTheNewFile) {
  const TempFolder folder("kill");
  const Path path = folder / "a";
  bool ended = false;
  for (int64_t nth = 1; !ended; ++nth) {
    ASSERT_LT(nth, 50);
    write_file_atomic(path, kOld);
    const test::ChildEnd end = test::run_in_child([&] {
      testing_hooks::arm_file_fault({.operation = GetParam(), .nth = nth, .effect = FileFault::Effect::kKill});
      write_file_atomic(path, kNew);
      return 0;
    });
    ended = end.exit_code == 0;
    EXPECT_TRUE(ended || end.signal == SIGKILL);
    const std::string content = slurp(path);
    EXPECT_TRUE(content == kOld || content == kNew) << content.size() << " bytes after a kill at step " << nth;
    EXPECT_TRUE(!ended || content == kNew);
    write_file_atomic(path, kNew);  // what the killed process left behind is in nobody's way
    EXPECT_EQ(slurp(path), kNew);
  }
}

std::string step_name(const testing::TestParamInfo<FileOperation>& tested) {
  constexpr std::array<const char*, 5> kNames = {"Open", "Read", "Write", "Fsync", "Rename"};
  return kNames[static_cast<size_t>(tested.param)];
}

INSTANTIATE_TEST_SUITE_P(Steps, KillTest,
                         testing::Values(FileOperation::kOpen, FileOperation::kWrite, FileOperation::kFsync,
                                         FileOperation::kRename),
                         step_name);

TEST(AbandonedTest, TemporariesOfTheDeadAreRemovedAndThoseOfTheLivingStay) {
  const TempFolder folder("abandoned");
  EXPECT_EQ(remove_abandoned_temporaries(folder / "none"), 0u);
  EXPECT_EQ(test::run_in_child([&] {
              OutputFile file(folder / "a");
              file.write(kNew);
              ::raise(SIGKILL);
              return 0;
            }).signal,
            SIGKILL);
  EXPECT_EQ(num_entries(folder.path()), 1u);
  for (const char* name : {"b.tmp", ".b.tmp", ".b.12-0123abcd.tmp", ".b.12-0123abcd-x.tmp", "b.12-0123abcd-1.tmp"}) {
    write_file_atomic(folder / name, "somebody else's");
  }
  OutputFile living(folder / "a");
  EXPECT_EQ(remove_abandoned_temporaries(folder.path()), 1u);
  EXPECT_EQ(remove_abandoned_temporaries(folder.path()), 0u);
  EXPECT_EQ(num_entries(folder.path()), 6u);
  living.write("x");
  living.commit();
  EXPECT_EQ(slurp(folder / "a"), "x");
}

TEST(KilledAppendTest, InsideAnAppendIsHealedByTheNext) {
  const TempFolder folder("kill");
  const Path path = folder / "log";
  append_line(path, "first");
  EXPECT_EQ(test::run_in_child([&] {
              testing_hooks::arm_file_fault({.effect = FileFault::Effect::kKill});
              append_line(path, "second");
              return 0;
            }).signal,
            SIGKILL);
  EXPECT_EQ(slurp(path), "first\nsec");
  append_line(path, "third");
  EXPECT_EQ(slurp(path), "first\nsec\nthird\n");
}

TEST(RealFailureTest, FullDevice) {
  int error_number = 0;
  const std::string message = io_message([] { append_line("/dev/full", "x"); }, &error_number);
  EXPECT_EQ(error_number, ENOSPC);
  EXPECT_NE(message.find("/dev/full: cannot write: No space left on device; free some space"), std::string::npos)
      << message;
}

TEST(RealFailureTest, FileSizeLimit) {
  const TempFolder folder("limit");
  write_file_atomic(folder / "a", kOld);
  append_line(folder / "log", "first");
  const test::ChildEnd end = test::run_in_child([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const struct rlimit limit = {4096, 4096};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    int error_number = 0;
    const std::string message = io_message([&] { write_file_atomic(folder / "a", kNew); }, &error_number);
    if (error_number != EFBIG || message.find("ulimit -f") == std::string::npos) return 1;
    // The line begins below the limit and ends above it.
    if (io_message([&] { append_line(folder / "log", kNew); }).empty()) return 2;
    return slurp(folder / "log") == "first\n" ? 0 : 3;
  });
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_EQ(slurp(folder / "a"), kOld);
  EXPECT_EQ(num_entries(folder.path()), 2u);
}

TEST(RealFailureTest, ReadOnlyFolder) {
  const TempFolder folder("readonly");
  write_file_atomic(folder / "a", kOld);
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0555));
  const test::ChildEnd end = test::run_in_child([&] {
    constexpr unsigned kNobody = 65534;
    // Permissions do not bind root.
    if (::geteuid() == 0 && (::setgroups(0, nullptr) != 0 || ::setgid(kNobody) != 0 || ::setuid(kNobody) != 0))
      return 1;
    const std::array<std::function<void()>, 5> calls = {
        [&] { write_file_atomic(folder / "a", kNew); }, [&] { write_file_atomic(folder / "b", kNew); },
        [&] { append_line(folder / "log", "x"); },      [&] { make_folders(folder / "sub/sub"); },
        [&] { FileLock(folder / "lock", "x"); },
    };
    for (const auto& call : calls) {
      int error_number = 0;
      const std::string message = io_message(call, &error_number);
      if (error_number != EACCES || message.find("check the permissions") == std::string::npos) return 2;
      if (message.find(folder.path().string()) == std::string::npos) return 3;
    }
    return 0;
  });
  std::filesystem::permissions(folder.path(), std::filesystem::perms(0755));
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_EQ(slurp(folder / "a"), kOld);
  EXPECT_EQ(num_entries(folder.path()), 1u);
}

TEST(RealFailureTest, FileSystemThatRefusesNewFiles) {
  // sysfs takes no new files, from root neither.
  EXPECT_NE(io_message([] { write_file_atomic("/sys/gato_test", "x"); }).find("/sys/gato_test: cannot open"),
            std::string::npos);
}

TEST(RealFailureTest, NoDescriptorsLeft) {
  const TempFolder folder("descriptors");
  write_file_atomic(folder / "a", kOld);
  EXPECT_EQ(test::run_in_child([&] {
              const struct rlimit limit = {3, 3};
              ::setrlimit(RLIMIT_NOFILE, &limit);
              int error_number = 0;
              const std::string message = io_message([&] { write_file_atomic(folder / "a", kNew); }, &error_number);
              return error_number == EMFILE && message.find("ulimit -n") != std::string::npos ? 0 : 1;
            }).exit_code,
            0);
  EXPECT_EQ(slurp(folder / "a"), kOld);
}

}  // namespace
}  // namespace gato
