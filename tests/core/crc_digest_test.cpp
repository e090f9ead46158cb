#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "core/crc32c.h"
#include "gato/core/error.h"
#include "gato/core/file.h"
#include "gato/core/random.h"
#include "support/temp_folder.h"

namespace gato {
namespace {

std::vector<std::byte> random_bytes(size_t size, uint64_t key) {
  Rng rng(key);
  std::vector<std::byte> bytes(size);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(rng.below(256));
  return bytes;
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// The polynomial division, bit by bit.
uint32_t crc32c_by_definition(std::span<const std::byte> bytes) {
  uint32_t crc = ~0u;
  for (const std::byte byte : bytes) {
    crc ^= static_cast<uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1u) != 0 ? (crc >> 1) ^ 0x82F63B78u : crc >> 1;
  }
  return ~crc;
}

TEST(Crc32cTest, GivesThePublishedAnswers) {
  // RFC 3720, appendix B.4 (its bytes are in order of transmission, least significant first).
  std::array<std::byte, 32> bytes{};
  EXPECT_EQ(crc32c(bytes), 0x8A9136AAu);
  bytes.fill(std::byte{0xFF});
  EXPECT_EQ(crc32c(bytes), 0x62A8AB43u);
  for (size_t i = 0; i < 32; ++i) bytes[i] = static_cast<std::byte>(i);
  EXPECT_EQ(crc32c(bytes), 0x46DD794Eu);
  for (size_t i = 0; i < 32; ++i) bytes[i] = static_cast<std::byte>(31 - i);
  EXPECT_EQ(crc32c(bytes), 0x113FDB5Cu);
  std::array<unsigned char, 48> read_command = {0x01, 0xC0, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
                                                0x00, 0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x00,
                                                0x00, 0x00, 0x00, 0x14, 0x00, 0x00, 0x00, 0x18, 0x28, 0x00, 0x00, 0x00,
                                                0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00};
  EXPECT_EQ(crc32c(std::as_bytes(std::span(read_command))), 0xD9963A56u);
  EXPECT_EQ(crc32c(std::string_view("123456789")), 0xE3069283u);
  EXPECT_EQ(crc32c(std::string_view()), 0u);
}

TEST(Crc32cTest, EveryPathAgreesWithTheDefinition) {
  const std::vector<std::byte> bytes = random_bytes(300, 1);
  for (size_t begin = 0; begin < 9; ++begin) {
    for (size_t size = 0; begin + size <= bytes.size(); ++size) {
      const std::span<const std::byte> piece(bytes.data() + begin, size);
      const uint32_t expected = crc32c_by_definition(piece);
      ASSERT_EQ(detail::crc32c_by_table(piece, 0), expected) << begin << " " << size;
      if (detail::has_crc32c_instruction()) {
        ASSERT_EQ(detail::crc32c_by_instruction(piece, 0), expected) << begin << " " << size;
      }
    }
  }
}

TEST(Crc32cTest, ContinuesWhereItStopped) {
  const std::vector<std::byte> bytes = random_bytes(100, 2);
  const uint32_t whole = crc32c(bytes);
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    const std::span<const std::byte> all(bytes);
    EXPECT_EQ(crc32c(all.subspan(cut), crc32c(all.first(cut))), whole);
    EXPECT_EQ(detail::crc32c_by_table(all.subspan(cut), detail::crc32c_by_table(all.first(cut), 0)), whole);
  }
}

TEST(Crc32cTest, SeesEveryFlippedBit) {
  std::vector<std::byte> bytes = random_bytes(64, 3);
  const uint32_t whole = crc32c(bytes);
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    bytes[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    EXPECT_NE(crc32c(bytes), whole);
    bytes[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
  }
}

TEST(DigestTest, GivesThePublishedAnswerForNothing) {
  EXPECT_EQ(digest128(std::string_view()), "99aa06d3014798d86001c324468d497f");
}

TEST(DigestTest, OfAFileIsThatOfItsContent) {
  const test::TempFolder folder("digest");
  // 1 MiB is the size of a piece.
  for (const size_t size :
       {size_t{0}, size_t{1}, size_t{240}, size_t{1} << 20, (size_t{1} << 20) + 1, size_t{3} << 20}) {
    const std::vector<std::byte> bytes = random_bytes(size, size);
    write_file_atomic(folder / "data", text_of(bytes));
    EXPECT_EQ(digest128_of_file(folder / "data"), digest128(bytes)) << size;
    EXPECT_EQ(digest128(bytes).size(), 32u);
  }
}

TEST(DigestTest, OfAMissingFileNamesIt) {
  try {
    static_cast<void>(digest128_of_file("/nonexistent/shard.gato"));
    FAIL();
  } catch (const IoError& error) {
    EXPECT_NE(std::string(error.what()).find("/nonexistent/shard.gato"), std::string::npos);
  }
}

}  // namespace
}  // namespace gato
