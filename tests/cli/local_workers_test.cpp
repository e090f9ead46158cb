#include "cli/gato_train/local_workers.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "gato/core/file.h"
#include "gato/core/log.h"
#include "gato/core/text.h"
#include "support/temp_folder.h"

namespace gato::cli {
namespace {

/// A program that notes its start and then does `rest`.
Path program(const Path& folder, const std::string& rest) {
  const Path path = folder / "program";
  write_file_atomic(path, cat("#!/bin/sh\necho started >>", (folder / "starts").string(), "\n", rest, "\n"));
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  return path;
}

/// How often it was started until it was left alone.
size_t starts_of(const std::string& rest) {
  log::set_level(log::Level::kOff);
  const gato::test::TempFolder folder;
  LocalWorkers workers({program(folder.path(), rest), folder / "run", 1, 1, 1.0});
  workers.wait_until_drained();
  return split(read_file(folder / "starts"), '\n').size() - 1;
}

TEST(LocalWorkersTest, OneThatHangsIsEndedAndStartedAgainAFewTimes) {
  EXPECT_EQ(starts_of("exec sleep 600"), 4u) << "and the wait for it ends";
}

TEST(LocalWorkersTest, OneThatCrashesIsStartedAgainAFewTimes) { EXPECT_EQ(starts_of("kill -9 $$"), 4u); }

TEST(LocalWorkersTest, OneThatEndsWellIsNot) { EXPECT_EQ(starts_of("exit 0"), 1u); }

}  // namespace
}  // namespace gato::cli
