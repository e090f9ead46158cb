#include "gato/checkpoint/manifest.h"

#include <gtest/gtest.h>

#include <cstdio>

#include "checkpoint/checksums.h"
#include "gato/core/error.h"
#include "gato/core/text.h"
#include "support/temp_folder.h"

namespace gato::checkpoint {
namespace {

Manifest example() {
  Manifest manifest;
  manifest.step = 1000;
  manifest.time = 1763821234.25;
  manifest.facts = {{"attempt", "2"}, {"quote\"", "line\nend \xc3\xa9"}};
  manifest.files = {{"config.yaml", 0, std::string(32, '0'), {}},
                    {"demos/grid/a.gato", 5, std::string(32, 'a'), {7}},
                    {"model.safetensors", 2 * kChunkBytes + 1, std::string(32, 'f'), {0, UINT32_MAX, 3}}};
  return manifest;
}

/// The refusal of `text`; "" when it is accepted.
std::string refusal(const std::string& text) {
  try {
    static_cast<void>(parse_manifest(text, "ck/MANIFEST.json"));
    return "";
  } catch (const CheckpointError& error) {
    return error.what();
  }
}

/// `text` with its last lines replaced by the ones that its checksum needs: what a forger would write.
std::string with_right_checksum(std::string text) {
  const size_t tail = text.rfind(" \"manifest_crc32c\"");
  text.resize(tail);
  char line[64];
  std::snprintf(line, sizeof line, " \"manifest_crc32c\": \"%08x\"\n}\n", crc32c(text));
  return text + line;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return with_right_checksum(text.replace(at, from.size(), to));
}

TEST(ManifestTest, RoundTrips) {
  EXPECT_EQ(parse_manifest(to_text(example()), "x"), example());
  EXPECT_EQ(parse_manifest(to_text(Manifest{}), "x"), Manifest{});
  ASSERT_NE(example().find("demos/grid/a.gato"), nullptr);
  EXPECT_EQ(example().find("demos/grid/a.gato")->size, 5u);
  EXPECT_EQ(example().find("demos"), nullptr);
}

TEST(ManifestTest, EveryFlippedBitIsFound) {
  const std::string text = to_text(example());
  for (size_t i = 0; i < text.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string flipped = text;
      flipped[i] = static_cast<char>(flipped[i] ^ (1 << bit));
      ASSERT_NE(refusal(flipped), "") << "byte " << i << " bit " << bit;
    }
  }
}

TEST(ManifestTest, EveryTruncationAndExtensionIsFound) {
  const std::string text = to_text(example());
  for (size_t size = 0; size < text.size(); ++size) {
    ASSERT_NE(refusal(text.substr(0, size)).find("ck/MANIFEST.json"), std::string::npos) << size;
  }
  EXPECT_NE(refusal(text + "\n"), "");
  EXPECT_NE(refusal(text + text), "");
}

TEST(ManifestTest, RefusesWhatBreaksARuleBehindARightChecksum) {
  const std::string text = to_text(example());
  EXPECT_EQ(refusal(with_right_checksum(text)), "");
  const auto expect = [&](const std::string& from, const std::string& to, const std::string& problem) {
    const std::string message = refusal(replaced(text, from, to));
    EXPECT_NE(message.find(problem), std::string::npos) << to << ": " << message;
  };
  expect("gato-checkpoint", "other", "format");
  expect("\"version\": 1", "\"version\": 2", "version 2 is not known");
  expect("\"version\": 1", "\"version\": 1.0", "version");
  expect("\"step\": 1000", "\"step\": -1", "step");
  expect("\"step\": 1000", "\"steps\": 1000", "\"step\" is missing");
  expect("\"step\": 1000", "\"step\": 1000, \"more\": 1", "unknown key \"more\"");
  expect("\"step\": 1000", "\"step\": 1000, \"step\": 1000", "duplicate key");
  expect("1763821234.25", "null", "time");
  expect("1048576", "1", "chunk_bytes");
  expect("\"2\"", "2", "facts");
  expect("\"config.yaml\"", "\"../config.yaml\"", "files[0]: name");
  expect("\"config.yaml\"", "\"/etc/passwd\"", "files[0]: name");
  expect("\"config.yaml\"", "\"a//b\"", "files[0]: name");
  expect("\"config.yaml\"", "\"a\\u0000b\"", "files[0]: name");
  expect("\"config.yaml\"", "\"MANIFEST.json\"", "files[0]: name");
  expect("\"config.yaml\"", "\"model.safetensors\"", "out of order");
  expect("\"config.yaml\"", "\"demos/grid/a.gato\"", "listed twice");
  expect("\"size\": 5", "\"size\": -5", "files[1]: size");
  expect("\"size\": 5", "\"size\": 18446744073709551615", "1 checksums for 17592186044416 chunks");
  expect("\"size\": 5", "\"size\": 0", "1 checksums for 0 chunks");
  expect(std::string(32, 'a'), std::string(31, 'a'), "xxh3_128");
  expect(std::string(32, 'a'), std::string(32, 'A'), "xxh3_128");
  expect("[7]", "[4294967296]", "crc32c");
  expect("[7]", "[-1]", "crc32c");
  expect("[7]", "[[7]]", "levels of nesting");
  expect("[7]", "7", "crc32c");
}

TEST(ManifestTest, FileNames) {
  for (const char* name : {"a", "a/b/c.json", ".hidden", "..a", "a..", "name with spaces", "\xc3\xa4"}) {
    EXPECT_TRUE(is_valid_file_name(name)) << name;
  }
  for (const char* name :
       {"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/./b", "a\nb", "a\x7f", "\xff", "MANIFEST.json"}) {
    EXPECT_FALSE(is_valid_file_name(name)) << name;
  }
  EXPECT_TRUE(is_valid_file_name(std::string(512, 'n')));
  EXPECT_FALSE(is_valid_file_name(std::string(513, 'n')));
  EXPECT_FALSE(is_valid_file_name(std::string("a\0b", 3)));
}

TEST(ChecksumsTest, DoNotDependOnThePieces) {
  std::string bytes;
  for (size_t i = 0; i < 2 * kChunkBytes + 12345; ++i) bytes += static_cast<char>(i * 31 + i / 1000);
  const auto whole = std::as_bytes(std::span(bytes));
  for (const size_t piece : {size_t{1000}, size_t{65536}, size_t{kChunkBytes}, size_t{1'500'000}, bytes.size()}) {
    FileChecksums checksums;
    for (size_t at = 0; at < whole.size(); at += piece) {
      checksums.update(whole.subspan(at, std::min(piece, whole.size() - at)));
    }
    const FileEntry entry = checksums.finish("f");
    EXPECT_EQ(entry.size, bytes.size());
    EXPECT_EQ(entry.xxh3_128, digest128(bytes));
    ASSERT_EQ(entry.crc32c.size(), 3u);
    EXPECT_EQ(entry.crc32c[0], crc32c(whole.first(kChunkBytes)));
    EXPECT_EQ(entry.crc32c[1], crc32c(whole.subspan(kChunkBytes, kChunkBytes)));
    EXPECT_EQ(entry.crc32c[2], crc32c(whole.subspan(2 * kChunkBytes)));
  }
  const gato::test::TempFolder folder("checksums");
  write_file_atomic(folder / "f", bytes);
  EXPECT_EQ(checksums_of_file(folder / "f", "f").xxh3_128, digest128(bytes));
  EXPECT_EQ(checksums_of_file(folder / "f", "f").crc32c.size(), 3u);
}

TEST(ChecksumsTest, EmptyFileHasNoChunks) {
  FileChecksums checksums;
  const FileEntry entry = checksums.finish("empty");
  EXPECT_EQ(entry.size, 0u);
  EXPECT_TRUE(entry.crc32c.empty());
  EXPECT_EQ(entry.xxh3_128, "99aa06d3014798d86001c324468d497f");  // XXH3-128 of nothing, as its authors give it
}

}  // namespace
}  // namespace gato::checkpoint
