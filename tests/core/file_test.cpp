#include "gato/core/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/random.h"
#include "support/child_process.h"
#include "support/temp_folder.h"

namespace gato {
namespace {

using test::TempFolder;

std::string slurp(const Path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void put(const Path& path, std::string_view content) {
  std::ofstream(path, std::ios::binary).write(content.data(), static_cast<std::streamsize>(content.size()));
}

size_t num_entries(const Path& folder) {
  return static_cast<size_t>(
      std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator()));
}

/// Runs `call`, which must throw `E`, and gives its message.
template <class E, class Call>
std::string message_of(Call&& call) {
  try {
    call();
  } catch (const E& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

#define EXPECT_CONTAINS(text, part) EXPECT_NE((text).find(part), std::string::npos) << "in: " << (text)

TEST(FileTest, ReadsWhatWasWritten) {
  const TempFolder folder("file");
  for (const size_t size : {size_t{0}, size_t{1}, size_t{4096}, size_t{100'000}, size_t{1} << 20, size_t{3'000'001}}) {
    std::string content(size, '\0');
    Rng rng(size);
    for (char& c : content) c = static_cast<char>(rng.below(256));
    write_file_atomic(folder / "a", content);
    EXPECT_EQ(read_file(folder / "a"), content);
  }
  EXPECT_EQ(num_entries(folder.path()), 1u);
}

TEST(FileTest, ReadsFilesThatHideTheirSize) {
  EXPECT_FALSE(read_file("/proc/self/status").empty());
  EXPECT_THROW(static_cast<void>(read_file("/proc/self/status", 10)), DataError);
}

TEST(FileTest, RefusesMoreThanAsked) {
  const TempFolder folder("file");
  put(folder / "a", "12345");
  EXPECT_EQ(read_file(folder / "a", 5), "12345");
  const std::string message = message_of<DataError>([&] { static_cast<void>(read_file(folder / "a", 4)); });
  EXPECT_CONTAINS(message, (folder / "a").string());
  EXPECT_CONTAINS(message, "5 bytes where at most 4");
}

TEST(FileTest, ClaimedSizeCostsNoMemory) {
  const TempFolder folder("file");
  put(folder / "sparse", "");
  std::filesystem::resize_file(folder / "sparse", uint64_t{1} << 40);
  EXPECT_THROW(static_cast<void>(read_file(folder / "sparse")), DataError);
}

TEST(FileTest, ErrorsNamePathReasonAndRemedy) {
  const TempFolder folder("file");
  const std::string missing = message_of<IoError>([&] { static_cast<void>(read_file(folder / "none")); });
  EXPECT_CONTAINS(missing, (folder / "none").string());
  EXPECT_CONTAINS(missing, "No such file");
  EXPECT_CONTAINS(missing, "check the path");
  EXPECT_CONTAINS(message_of<IoError>([&] { static_cast<void>(read_file(folder.path())); }), "directory");
  put(folder / "a", "x");
  EXPECT_THROW(static_cast<void>(read_file(folder / "a" / "b")), IoError);
  EXPECT_THROW(write_file_atomic(folder / "a" / "b", "x"), IoError);  // a file where a folder should be
  EXPECT_THROW(write_file_atomic(folder.path(), "x"), IoError);       // a folder where a file should be
  EXPECT_EQ(slurp(folder / "a"), "x");
}

TEST(FileTest, PipesAndDevicesAreRefusedInsteadOfWaitedFor) {
  const TempFolder folder("file");
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_CONTAINS(message_of<IoError>([&] { static_cast<void>(read_file(folder / "pipe")); }), "not a regular file");
  EXPECT_THROW(static_cast<void>(read_file("/dev/zero")), IoError);
  EXPECT_THROW(InputFile(folder / "pipe"), IoError);
  EXPECT_THROW(MappedFile("/dev/zero"), IoError);
}

TEST(FileTest, MakesParentFolders) {
  const TempFolder folder("file");
  write_file_atomic(folder / "a/b/c", "x");
  EXPECT_EQ(slurp(folder / "a/b/c"), "x");
  append_line(folder / "d/e", "y");
  EXPECT_EQ(slurp(folder / "d/e"), "y\n");
  make_folders(folder / "f/g/");
  make_folders(folder / "f/./g");
  EXPECT_TRUE(std::filesystem::is_directory(folder / "f/g"));
  make_folders("");
  EXPECT_THROW(make_folders(folder / "a/b/c"), IoError);
}

TEST(FileTest, RelativePathsWork) {
  const TempFolder folder("file");
  EXPECT_EQ(test::run_in_child([&] {
              if (::chdir(folder.path().c_str()) != 0) return 1;
              write_file_atomic("plain", "x");
              append_line("lines", "y", true);
              rename_durable("plain", "renamed");
              fsync_folder("");
              return slurp("renamed") == "x" && slurp("lines") == "y\n" ? 0 : 2;
            }).exit_code,
            0);
}

TEST(FileTest, RenameIsReported) {
  const TempFolder folder("file");
  put(folder / "a", "x");
  make_folders(folder / "sub");
  rename_durable(folder / "a", folder / "sub/b");
  EXPECT_EQ(slurp(folder / "sub/b"), "x");
  EXPECT_CONTAINS(message_of<IoError>([&] { rename_durable(folder / "a", folder / "c"); }), (folder / "c").string());
  EXPECT_THROW(fsync_folder(folder / "none"), IoError);
}

TEST(FileTest, LongNamesWork) {
  const TempFolder folder("file");
  const std::string name(250, 'n');
  write_file_atomic(folder / name, "x");
  EXPECT_EQ(slurp(folder / name), "x");
  EXPECT_THROW(write_file_atomic(folder / std::string(300, 'n'), "x"), IoError);
  EXPECT_EQ(num_entries(folder.path()), 1u);
}

TEST(FileTest, NewFilesFollowTheUmask) {
  const TempFolder folder("file");
  EXPECT_EQ(test::run_in_child([&] {
              ::umask(027);
              write_file_atomic(folder / "a", "x");
              struct stat status {};
              ::stat((folder / "a").c_str(), &status);
              return (status.st_mode & 0777) == 0640 ? 0 : 1;
            }).exit_code,
            0);
}

TEST(AppendLineTest, KeepsLinesOfManyThreadsAndProcessesWhole) {
  const TempFolder folder("append");
  const Path path = folder / "log.jsonl";
  constexpr int kWriters = 4;
  constexpr int kLines = 200;
  const auto write_lines = [&](int writer) {
    for (int i = 0; i < kLines; ++i) append_line(path, cat(writer, " ", i, " ", std::string(100, 'x')));
  };
  std::vector<pid_t> children;
  for (int writer = 0; writer < kWriters; ++writer) {
    children.push_back(test::start_child([&, writer] {
      std::thread other([&] { write_lines(writer + kWriters); });
      write_lines(writer);
      other.join();
      return 0;
    }));
  }
  for (const pid_t child : children) EXPECT_EQ(test::wait_for_child(child).exit_code, 0);
  std::set<std::string> seen;
  for (const std::string& line : split(slurp(path), '\n')) {
    if (line.empty()) continue;
    EXPECT_EQ(line.substr(line.size() - 100), std::string(100, 'x'));
    EXPECT_TRUE(seen.insert(line).second) << line;
  }
  EXPECT_EQ(seen.size(), static_cast<size_t>(2 * kWriters * kLines));
}

TEST(AppendLineTest, StartsANewLineAfterATornOne) {
  const TempFolder folder("append");
  put(folder / "log", "whole\ntor");
  append_line(folder / "log", "next", true);
  EXPECT_EQ(slurp(folder / "log"), "whole\ntor\nnext\n");
}

TEST(AppendLineTest, RefusesALineEndInside) {
  const TempFolder folder("append");
  EXPECT_THROW(append_line(folder / "log", "a\nb"), ContractError);
  EXPECT_FALSE(std::filesystem::exists(folder / "log"));
}

TEST(InputFileTest, ReadsAnywhereAndRefusesBeyondTheEnd) {
  const TempFolder folder("input");
  put(folder / "a", "0123456789");
  const InputFile file(folder / "a");
  EXPECT_EQ(file.size(), 10u);
  EXPECT_EQ(file.path(), folder / "a");
  std::array<std::byte, 4> piece{};
  file.read_at(3, piece);
  EXPECT_EQ(std::to_integer<char>(piece[0]), '3');
  EXPECT_EQ(std::to_integer<char>(piece[3]), '6');
  file.read_at(6, piece);
  file.read_at(10, std::span<std::byte>());
  for (const uint64_t offset : {uint64_t{7}, uint64_t{10}, uint64_t{1000}, ~uint64_t{0}, ~uint64_t{0} - 2}) {
    const std::string message = message_of<DataError>([&] { file.read_at(offset, piece); });
    EXPECT_CONTAINS(message, (folder / "a").string());
    EXPECT_CONTAINS(message, "ends at byte 10");
    EXPECT_CONTAINS(message, cat("offset ", offset));
  }
}

TEST(InputFileTest, FileCutShortWhileOpenIsADataError) {
  const TempFolder folder("input");
  put(folder / "a", std::string(100, 'x'));
  const InputFile file(folder / "a");
  std::filesystem::resize_file(folder / "a", 50);
  std::array<std::byte, 20> piece{};
  file.read_at(20, piece);
  EXPECT_CONTAINS(message_of<DataError>([&] { file.read_at(40, piece); }), "ends at byte 50");
}

TEST(InputFileTest, RemovedFileStaysReadable) {
  const TempFolder folder("input");
  put(folder / "a", "0123456789");
  const InputFile file(folder / "a");
  std::filesystem::remove(folder / "a");
  std::array<std::byte, 10> piece{};
  EXPECT_NO_THROW(file.read_at(0, piece));
}

TEST(InputFileTest, MovesKeepTheFileAndManyThreadsReadAtOnce) {
  const TempFolder folder("input");
  std::string content;
  for (int i = 0; i < 1000; ++i) content += static_cast<char>(i % 251);
  put(folder / "a", content);
  put(folder / "b", "b");
  InputFile first(folder / "a");
  InputFile file(folder / "b");
  file = std::move(first);
  const InputFile moved(std::move(file));
  EXPECT_EQ(moved.size(), 1000u);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&moved, &content, t] {
      for (size_t offset = static_cast<size_t>(t); offset + 7 <= 1000; offset += 3) {
        std::array<char, 7> piece{};
        moved.read_at(offset, std::as_writable_bytes(std::span(piece)));
        EXPECT_EQ(std::string_view(piece.data(), 7), std::string_view(content).substr(offset, 7));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(OutputFileTest, AppearsAtCommitOnly) {
  const TempFolder folder("output");
  put(folder / "a", "old");
  OutputFile file(folder / "a");
  std::string expected;
  // Pieces below, at and above the size of the buffer.
  for (const size_t size : {size_t{0}, size_t{5}, size_t{262'144}, size_t{262'143}, size_t{700'000}, size_t{3}}) {
    const std::string piece(size, static_cast<char>('a' + size % 26));
    file.write(piece);
    expected += piece;
    EXPECT_EQ(file.position(), expected.size());
  }
  EXPECT_EQ(slurp(folder / "a"), "old");
  file.commit();
  EXPECT_EQ(slurp(folder / "a"), expected);
  EXPECT_EQ(num_entries(folder.path()), 1u);
  EXPECT_THROW(file.commit(), ContractError);
  EXPECT_THROW(file.write("x"), ContractError);
}

TEST(OutputFileTest, LeavesNothingWithoutCommit) {
  const TempFolder folder("output");
  {
    OutputFile file(folder / "a");
    file.write(std::string(1'000'000, 'x'));
  }
  EXPECT_EQ(num_entries(folder.path()), 0u);
  EXPECT_THROW(OutputFile("folder/"), ContractError);
}

TEST(OutputFileTest, WritersOfOneNameDoNotMeet) {
  const TempFolder folder("output");
  OutputFile first(folder / "a");
  OutputFile second(folder / "a");
  first.write("first");
  second.write("second");
  second.commit();
  EXPECT_EQ(slurp(folder / "a"), "second");
  first.commit();
  EXPECT_EQ(slurp(folder / "a"), "first");
}

TEST(OutputFileTest, FolderThatVanishesIsReported) {
  const TempFolder folder("output");
  OutputFile file(folder / "sub/a");
  file.write("x");
  std::filesystem::remove_all(folder / "sub");
  EXPECT_CONTAINS(message_of<IoError>([&] { file.commit(); }), (folder / "sub/a").string());
}

TEST(MappedFileTest, ShowsTheContent) {
  const TempFolder folder("mapped");
  put(folder / "a", "0123456789");
  put(folder / "empty", "");
  MappedFile file(folder / "a");
  EXPECT_EQ(file.bytes().size(), 10u);
  EXPECT_EQ(std::to_integer<char>(file.bytes()[9]), '9');
  MappedFile moved(std::move(file));
  EXPECT_EQ(moved.bytes().size(), 10u);
  file = std::move(moved);
  EXPECT_EQ(std::to_integer<char>(file.bytes()[0]), '0');
  EXPECT_TRUE(MappedFile(folder / "empty").bytes().empty());
  EXPECT_TRUE(MappedFile().bytes().empty());
  EXPECT_THROW(MappedFile(folder / "none"), IoError);
  // Replacing the name leaves the mapping as it was.
  write_file_atomic(folder / "a", "x");
  EXPECT_EQ(std::to_integer<char>(file.bytes()[9]), '9');
}

TEST(FileLockTest, SecondHolderIsToldWhoHasIt) {
  const TempFolder folder("lock");
  const Path path = folder / "run/lock";
  {
    const FileLock lock(path, "unused");
    const std::string message = message_of<ConfigError>([&] { FileLock(path, "stop it or use another run.dir"); });
    EXPECT_CONTAINS(message, path.string());
    EXPECT_CONTAINS(message, cat("process ", ::getpid(), " on "));
    EXPECT_CONTAINS(message, "stop it or use another run.dir");
    // Another process meets the same refusal.
    EXPECT_EQ(test::run_in_child([&] {
                try {
                  const FileLock second(path, "x");
                } catch (const ConfigError&) {
                  return 0;
                }
                return 1;
              }).exit_code,
              0);
  }
  EXPECT_NO_THROW(FileLock(path, "x"));
}

TEST(FileLockTest, KilledHolderLeavesNoLock) {
  const TempFolder folder("lock");
  const Path path = folder / "lock";
  EXPECT_EQ(test::run_in_child([&] {
              const FileLock lock(path, "x");
              ::raise(SIGKILL);
              return 0;
            }).signal,
            SIGKILL);
  EXPECT_CONTAINS(slurp(path), "process ");
  EXPECT_NO_THROW(FileLock(path, "x"));
}

TEST(FileLockTest, DamagedHolderNameIsShownSafely) {
  const TempFolder folder("lock");
  const FileLock lock(folder / "lock", "x");
  put(folder / "lock", std::string("\x01\xFF\n", 3) + std::string(5000, 'h'));
  const std::string message = message_of<ConfigError>([&] { FileLock(folder / "lock", "remedy"); });
  EXPECT_LT(message.size(), 700u);
  EXPECT_TRUE(is_valid_utf8(message));
}

}  // namespace
}  // namespace gato
