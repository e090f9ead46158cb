#include "episode/import/tfrecord.h"

#include <gtest/gtest.h>

#include <fstream>

#include "episode/import/tfds_inflate.h"
#include "episode/tfds_forge.h"
#include "gato/core/error.h"
#include "support/temp_folder.h"

namespace gato::episode {
namespace {

using forge::deflated;
using forge::tfrecord;

std::vector<std::string> read_all(TfRecordReader reader) {
  std::vector<std::string> records;
  std::string payload;
  while (reader.next(payload)) records.push_back(payload);
  return records;
}

std::vector<std::string> read_all(const std::string& bytes, Compression compression = Compression::kByMagic,
                                  const TfRecordLimits& limits = {}) {
  return read_all(tfrecord_in_memory(bytes, "test", compression, limits));
}

/// The message of the DataError that reading `bytes` ends in; "" when there is none.
std::string error_of(const std::string& bytes, Compression compression = Compression::kByMagic,
                     const TfRecordLimits& limits = {}) {
  try {
    read_all(bytes, compression, limits);
  } catch (const DataError& error) {
    return error.what();
  }
  return "";
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::string three_records() { return tfrecord("first") + tfrecord("") + tfrecord(std::string(3000, 'x')); }

std::vector<std::string> three_payloads() { return {"first", "", std::string(3000, 'x')}; }

TEST(TfRecordTest, ChecksumIsTheMaskedOneOfTheSpecification) {
  // CRC-32C of "123456789" is 0xe3069283 (RFC 3720): turned right by 15 bits, plus 0xa282ead8.
  EXPECT_EQ(masked_crc32c("123456789"), ((0xe3069283u >> 15) | (0xe3069283u << 17)) + 0xa282ead8u);
}

TEST(TfRecordTest, ReadsRecordsInOrderWithTheirOffsets) {
  TfRecordReader reader = tfrecord_in_memory("", "test", Compression::kByMagic);
  std::string payload;
  EXPECT_FALSE(reader.next(payload));
  EXPECT_EQ(read_all(three_records()), three_payloads());
  const std::string bytes = three_records();
  TfRecordReader offsets = tfrecord_in_memory(bytes, "test", Compression::kNone);
  std::vector<uint64_t> seen;
  while (offsets.next(payload)) seen.push_back(offsets.offset());
  EXPECT_EQ(seen, (std::vector<uint64_t>{0, 21, 37}));
  EXPECT_EQ(offsets.count(), 3);
  EXPECT_EQ(offsets.position(), bytes.size());
}

TEST(TfRecordTest, FindsTheCompressionByTheFirstBytes) {
  for (const bool gzip : {true, false}) {
    const std::string bytes = deflated(three_records(), gzip);
    EXPECT_EQ(read_all(bytes), three_payloads());
    EXPECT_EQ(read_all(bytes, gzip ? Compression::kGzip : Compression::kZlib), three_payloads());
    EXPECT_NE(error_of(bytes, Compression::kNone), "");
  }
  EXPECT_NE(error_of(three_records(), Compression::kGzip), "");
}

TEST(TfRecordTest, LengthsThatLookLikeGzipAreLengths) {
  const std::string payload(0x8b1f, 'x');
  const std::string bytes = tfrecord(payload);
  ASSERT_EQ(bytes.substr(0, 2), "\x1f\x8b");
  EXPECT_EQ(read_all(bytes), std::vector<std::string>{payload});
}

TEST(TfRecordTest, ReadsSeveralGzipMembersAsOneFile) {
  const std::string bytes = three_records();
  EXPECT_EQ(read_all(deflated(bytes.substr(0, 30), true) + deflated(bytes.substr(30), true)), three_payloads());
}

TEST(TfRecordTest, ReadsFilesLargerThanItsBuffers) {
  const test::TempFolder folder("tfrecord");
  std::vector<std::string> payloads;
  std::string bytes;
  for (size_t i = 0; i < 40; ++i) {
    payloads.push_back(std::string(i * i * 1000, static_cast<char>('a' + i % 26)));
    bytes += tfrecord(payloads.back());
  }
  std::ofstream(folder / "plain", std::ios::binary) << bytes;
  std::ofstream(folder / "zipped", std::ios::binary) << deflated(bytes, true);
  EXPECT_EQ(read_all(open_tfrecord(folder / "plain", Compression::kByMagic)), payloads);
  const TfRecordLimits limits{.decompression = {.ratio = 2000}};  // Runs of one letter compress as no data does.
  EXPECT_EQ(read_all(open_tfrecord(folder / "zipped", Compression::kByMagic, limits)), payloads);
  EXPECT_THROW(static_cast<void>(open_tfrecord(folder / "missing", Compression::kByMagic)), IoError);
}

TEST(TfRecordTest, TruncationAtEveryLengthIsAnErrorUnlessBetweenRecords) {
  const std::string bytes = three_records().substr(0, 21 + 16 + 60);
  for (size_t length = 0; length < bytes.size(); ++length) {
    const bool between = length == 0 || length == 21 || length == 37;
    EXPECT_EQ(error_of(bytes.substr(0, length)).empty(), between) << length;
  }
}

TEST(TfRecordTest, EveryFlippedBitIsAnError) {
  const std::string bytes = tfrecord("first") + tfrecord("second");
  for (size_t i = 0; i < 8 * bytes.size(); ++i) {
    std::string damaged = bytes;
    damaged[i / 8] = static_cast<char>(damaged[i / 8] ^ 1 << i % 8);
    EXPECT_NE(error_of(damaged), "") << "bit " << i;
  }
}

TEST(TfRecordTest, DamageInCompressedFilesIsFound) {
  for (const bool gzip : {true, false}) {
    const std::string bytes = deflated(three_records(), gzip);
    for (size_t length = 1; length < bytes.size(); ++length) {
      EXPECT_NE(error_of(bytes.substr(0, length), gzip ? Compression::kGzip : Compression::kZlib), "") << length;
    }
    EXPECT_NE(error_of(bytes + "more"), "");
    std::string damaged = bytes;
    damaged[bytes.size() / 2] = static_cast<char>(damaged[bytes.size() / 2] ^ 0x55);
    EXPECT_NE(error_of(damaged), "");
  }
}

TEST(TfRecordTest, LengthsThatLieTakeNoMemory) {
  // All with right checksums: more than the file has, more than a record may have, and more than 64 bits can add up.
  EXPECT_TRUE(contains(error_of(forge::tfrecord_header(uint64_t{200} << 20) + "x"), "only 1 bytes follow"));
  EXPECT_TRUE(contains(error_of(forge::tfrecord_header(uint64_t{300} << 20) + "x"), "at most"));
  EXPECT_TRUE(contains(error_of(forge::tfrecord_header(UINT64_MAX) + "x"), "at most"));
  EXPECT_TRUE(contains(error_of(deflated(forge::tfrecord_header(uint64_t{200} << 20) + "x", true)), "truncated"));
}

TEST(TfRecordTest, BombsAreRefused) {
  const std::string bytes = deflated(tfrecord(std::string(4 << 20, '\0')), true);
  ASSERT_LT(bytes.size() * 200, size_t{4} << 20);
  const TfRecordLimits limits{.decompression = {.slack = 1 << 20}};
  EXPECT_TRUE(contains(error_of(bytes, Compression::kByMagic, limits), "expands more than 200 times"));
  const TfRecordLimits small{.decompression = {.most = 1 << 20}};
  EXPECT_TRUE(contains(error_of(bytes, Compression::kByMagic, small), "expands to more than 1048576 bytes"));
  EXPECT_EQ(error_of(bytes), "");
}

TEST(TfRecordTest, ErrorsNameFileRecordAndByte) {
  std::string bytes = three_records();
  bytes[40] ^= 1;
  EXPECT_TRUE(contains(error_of(bytes), "test, record 2 at byte 37")) << error_of(bytes);
  EXPECT_TRUE(contains(error_of("this is a text and not a TFRecord"), "neither a TFRecord"));
}

TEST(TfRecordTest, TensorsAreInflatedToTheirSizeOnly) {
  const std::string bytes = deflated("0123456789", false);
  std::string out(10, '\0');
  inflate_exactly(bytes, std::as_writable_bytes(std::span(out)), "test");
  EXPECT_EQ(out, "0123456789");
  for (const size_t size : {0, 9, 11}) {
    std::string wrong(size, '\0');
    EXPECT_THROW(inflate_exactly(bytes, std::as_writable_bytes(std::span(wrong)), "test"), DataError) << size;
  }
  EXPECT_THROW(inflate_exactly(bytes + "x", std::as_writable_bytes(std::span(out)), "test"), DataError);
  EXPECT_THROW(inflate_exactly("", std::as_writable_bytes(std::span(out)), "test"), DataError);
}

}  // namespace
}  // namespace gato::episode
