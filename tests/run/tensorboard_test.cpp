#include "gato/run/tensorboard.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <limits>

#include "gato/core/error.h"
#include "run/event_file.h"
#include "support/child_process.h"
#include "support/temp_folder.h"

namespace gato::run {
namespace {

using gato::test::TempFolder;

std::string hex(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const char c : bytes) {
    text += kDigits[static_cast<unsigned char>(c) >> 4];
    text += kDigits[static_cast<unsigned char>(c) & 15];
  }
  return text;
}

uint64_t number_at(std::string_view bytes, size_t offset, int count) {
  uint64_t value = 0;
  for (int i = 0; i < count; ++i) {
    value |= uint64_t{static_cast<unsigned char>(bytes.at(offset + static_cast<size_t>(i)))} << (8 * i);
  }
  return value;
}

/// The records of a file, their checksums verified.
std::vector<std::string> records_of(const Path& path) {
  const std::string bytes = read_file(path);
  std::vector<std::string> records;
  for (size_t offset = 0; offset < bytes.size();) {
    const auto length = static_cast<size_t>(number_at(bytes, offset, 8));
    EXPECT_EQ(number_at(bytes, offset + 8, 4), masked_crc32c(std::string_view(bytes).substr(offset, 8)));
    records.push_back(bytes.substr(offset + 12, length));
    EXPECT_EQ(number_at(bytes, offset + 12 + length, 4), masked_crc32c(records.back()));
    offset += 16 + length;
  }
  return records;
}

TEST(EventFileTest, RecordsAreFramedAsTFRecordSays) {
  // The first record TensorFlow itself writes for a file of version 2 at time 0.
  EXPECT_EQ(hex(version_event(0)), "0900000000000000001a0d" + hex("brain.Event:2"));
  EXPECT_EQ(masked_crc32c(""), 0xa282ead8u);
  const std::string record = tfrecord("abc");
  EXPECT_EQ(hex(record).substr(0, 16), "0300000000000000");
  EXPECT_EQ(record.size(), 8u + 4 + 3 + 4);
  EXPECT_EQ(record.substr(12, 3), "abc");
}

TEST(EventFileTest, EventsAreEncodedAsTheirDefinitionSays) {
  EXPECT_EQ(hex(start_event(1.0, 300)),
            "09000000000000f03f"
            "10ac02"
            "3a02"
            "0801");
  // wall_time 1.0, step 1, summary { value { tag "a" simple_value 1.5 } value { tag "b" simple_value -0 } }
  EXPECT_EQ(hex(scalars_event(1.0, 1, {{"a", 1.5}, {"b", -0.0}})),
            "09000000000000f03f"
            "1001"
            "2a14"
            "0a08"
            "0a0161"
            "150000c03f"
            "0a08"
            "0a0162"
            "1500000080");
}

TEST(EventFileTest, NumbersOutsideFloatBecomeInfinite) {
  EXPECT_EQ(hex(scalars_event(0, 0, {{"a", 1e300}})).substr(hex(scalars_event(0, 0, {{"a", 1e300}})).size() - 8),
            "0000807f");
  EXPECT_EQ(hex(scalars_event(0, 0, {{"a", -1e300}})).substr(hex(scalars_event(0, 0, {{"a", 0}})).size() - 8),
            "000080ff");
}

TEST(TensorBoardWriterTest, EveryWriterMakesItsOwnFile) {
  const TempFolder folder("tensorboard");
  Path first_path;
  {
    TensorBoardWriter first(folder.path(), 1, 0);
    first.write(1, {{"loss", 2.0}});
    first.write(2, {});
    first_path = first.path();
  }
  TensorBoardWriter second(folder.path(), 1, 10);
  second.write(11, {{"loss", 1.0}, {"lr", std::nan("")}});
  EXPECT_NE(second.path(), first_path);
  EXPECT_EQ(first_path.filename().string().find("events.out.tfevents."), 0u);
  EXPECT_EQ(records_of(first_path).size(), 3u);
  const std::vector<std::string> records = records_of(second.path());
  ASSERT_EQ(records.size(), 3u);
  EXPECT_NE(records[0].find("brain.Event:2"), std::string::npos);
  EXPECT_EQ(hex(records[1]).substr(18),
            "100b"
            "3a02"
            "0801")
      << "starts behind the step it resumes from";
  EXPECT_NE(records[2].find("loss"), std::string::npos);
  EXPECT_THROW(second.write(-1, {{"a", 1}}), ContractError);
}

TEST(TensorBoardWriterTest, AnEventThatDoesNotFitIsTakenBack) {
  const TempFolder folder("tensorboard");
  const auto end = gato::test::run_in_child([&] {
    std::signal(SIGXFSZ, SIG_IGN);
    TensorBoardWriter writer(folder.path(), 1, 0);
    const auto size = std::filesystem::file_size(writer.path());
    const rlimit limit{size + 20, size + 20};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 2;
    try {
      writer.write(1, {{"a/name/that/does/not/fit/into/what/is/left", 1}});
    } catch (const IoError&) {
      return std::filesystem::file_size(writer.path()) == size ? 0 : 3;
    }
    return 4;
  });
  EXPECT_EQ(end.exit_code, 0);
}

TEST(TensorBoardWriterTest, FoldersThatRefuseAreNamed) {
  EXPECT_THROW(TensorBoardWriter("/proc/gato-tensorboard", 1, 0), IoError);
}

}  // namespace
}  // namespace gato::run
