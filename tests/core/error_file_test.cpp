#include "gato/core/error_file.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "gato/core/file.h"
#include "gato/core/json.h"
#include "support/temp_folder.h"

namespace gato {
namespace {

TEST(ErrorFileTest, HasTheFormThatTorchrunReads) {
  const test::TempFolder folder;
  const Path path = folder / "error.json";
  write_error_file(path.string(), "rank 1 died \xff", "main\n");
  const Json json = parse_json(read_file(path), path.string());
  EXPECT_NE(json["message"]["message"].get<std::string>().find("rank 1 died"), std::string::npos);
  EXPECT_EQ(json["message"]["extraInfo"]["py_callstack"], "main\n");
  EXPECT_GT(std::stoll(json["message"]["extraInfo"]["timestamp"].get<std::string>()), 1700000000);
}

TEST(ErrorFileTest, TheFirstCauseStays) {
  const test::TempFolder folder;
  const Path path = folder / "error.json";
  write_error_file(path.string(), "first", "");
  const std::string before = read_file(path);
  write_error_file(path.string(), "second", "");
  EXPECT_EQ(read_file(path), before);
}

TEST(ErrorFileTest, AFailureToWriteIsOnlyAWarning) {
  const test::TempFolder folder;
  write_file_atomic(folder / "file", "x");
  write_error_file((folder / "file/below/error.json").string(), "first", "");
  write_error_file("", "first", "");
}

}  // namespace
}  // namespace gato
