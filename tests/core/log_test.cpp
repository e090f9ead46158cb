#include "gato/core/log.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <thread>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/file.h"
#include "support/child_process.h"
#include "support/temp_folder.h"

namespace gato {
namespace {

using log::Level;

class LogTest : public testing::Test {
 protected:
  void TearDown() override {
    log::set_level(Level::kInfo);
    log::set_rank(0);
  }

  /// What `call` writes to standard error.
  template <class Call>
  static std::string written(Call&& call) {
    testing::internal::CaptureStderr();
    call();
    return testing::internal::GetCapturedStderr();
  }
};

TEST_F(LogTest, LevelsHaveNames) {
  EXPECT_EQ(log::parse_level("debug"), Level::kDebug);
  EXPECT_EQ(log::parse_level("info"), Level::kInfo);
  EXPECT_EQ(log::parse_level("warning"), Level::kWarning);
  EXPECT_EQ(log::parse_level("error"), Level::kError);
  EXPECT_EQ(log::parse_level("off"), Level::kOff);
  try {
    static_cast<void>(log::parse_level("verbose"));
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("\"verbose\"; write one of debug, info"), std::string::npos);
  }
}

TEST_F(LogTest, MessagesNameTimeLevelAndModule) {
  const std::string text = written([] { log::info("data", "read ", 3, " shards"); });
  EXPECT_TRUE(text.ends_with(" info data: read 3 shards\n")) << text;
  EXPECT_EQ(text.find(':'), 2u) << text;  // 12:34:56
}

TEST_F(LogTest, BelowTheLevelIsDropped) {
  const auto all = [] {
    log::debug("m", "d");
    log::info("m", "i");
    log::warning("m", "w");
    log::error("m", "e");
    log::write(Level::kOff, "m", "never");
  };
  const auto num_lines = [&] { return split(written(all), '\n').size() - 1; };
  EXPECT_EQ(num_lines(), 3u);
  log::set_level(Level::kDebug);
  EXPECT_EQ(num_lines(), 4u);
  log::set_level(Level::kError);
  EXPECT_EQ(num_lines(), 1u);
  log::set_level(Level::kOff);
  EXPECT_EQ(num_lines(), 0u);
}

TEST_F(LogTest, OtherRanksSayOnlyWhatMatters) {
  log::set_rank(3);
  EXPECT_EQ(written([] { log::info("m", "x"); }), "");
  EXPECT_TRUE(written([] { log::warning("m", "x"); }).ends_with("warning m: [rank 3] x\n"));
  log::set_rank(3, true);
  EXPECT_TRUE(written([] { log::info("m", "x"); }).ends_with("info m: [rank 3] x\n"));
}

TEST_F(LogTest, TheFileOfAnotherRankHasEverything) {
  const test::TempFolder folder("log");
  const std::string path = (folder / "rank-3.log").string();
  const auto end = test::run_in_child([&] {  // because a log file stays open for the rest of the process
    log::set_rank(3);
    log::set_file(path);
    return written([] {
             log::info("m", "for the file");
             log::write_to_file(log::Level::kError, "m", "this too");
           }).empty()
               ? 0
               : 1;
  });
  EXPECT_EQ(end.exit_code, 0);
  EXPECT_NE(read_file(path).find("error m: [rank 3] this too"), std::string::npos);
  EXPECT_NE(read_file(path).find("m: [rank 3] for the file"), std::string::npos);
}

TEST_F(LogTest, FileGetsEveryMessageAndAppends) {
  const test::TempFolder folder("log");
  // In a child, because a log file stays open for the rest of the process.
  for (int run = 0; run < 2; ++run) {
    EXPECT_EQ(test::run_in_child([&] {
                log::set_file((folder / "sub/log.txt").string());
                log::set_level(Level::kDebug);
                testing::internal::CaptureStderr();
                log::debug("m", "run ", run);
                return 0;
              }).exit_code,
              0);
  }
  const std::vector<std::string> lines = split(read_file(folder / "sub/log.txt"), '\n');
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_TRUE(lines[0].ends_with(" debug m: run 0")) << lines[0];
  EXPECT_TRUE(lines[1].ends_with(" debug m: run 1")) << lines[1];
}

TEST_F(LogTest, FileThatCannotBeOpenedIsAnError) {
  const test::TempFolder folder("log");
  try {
    log::set_file(folder.path().string());
    FAIL();
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find(folder.path().string()), std::string::npos) << error.what();
  }
}

TEST_F(LogTest, FullDiskUnderTheLogFileEndsNothing) {
  EXPECT_EQ(test::run_in_child([] {
              testing::internal::CaptureStderr();
              log::set_file("/dev/full");
              log::info("m", "goes on");
              const std::string text = testing::internal::GetCapturedStderr();
              return text.find("m: goes on") != std::string::npos && text.find("cannot write") != std::string::npos ? 0
                                                                                                                    : 1;
            }).exit_code,
            0);
}

TEST_F(LogTest, ThreadsDoNotMixTheirLines) {
  const std::string text = written([] {
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([t] {
        for (int i = 0; i < 100; ++i) log::info("m", "thread ", t, " says something of some length");
      });
    }
    for (std::thread& thread : threads) thread.join();
  });
  const std::vector<std::string> lines = split(text, '\n');
  ASSERT_EQ(lines.size(), 401u);
  for (size_t i = 0; i < 400; ++i) EXPECT_TRUE(lines[i].ends_with("says something of some length")) << lines[i];
}

TEST_F(LogTest, EveryCountsFromTheFirst) {
  std::atomic<int64_t> counter{0};
  std::string answers;
  for (int i = 0; i < 7; ++i) answers += log::every(counter, 3) ? 'x' : '.';
  EXPECT_EQ(answers, "x..x..x");
  EXPECT_THROW(static_cast<void>(log::every(counter, 0)), ContractError);
}

}  // namespace
}  // namespace gato
