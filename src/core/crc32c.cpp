#include "crc32c.h"

#include <array>
#include <bit>
#include <cstring>

#include "gato/core/error.h"
#include "gato/core/file.h"

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace gato {
namespace detail {
namespace {

static_assert(std::endian::native == std::endian::little, "the file formats are written little-endian, as memory lies");

using Tables = std::array<std::array<uint32_t, 256>, 8>;

/// tables[k][b]: the CRC register after byte b and k zero bytes ("slicing by eight", Kounavis and Berry, 2005).
constexpr Tables make_tables() {
  constexpr uint32_t kReversedPolynomial = 0x82F63B78u;
  Tables tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1u) != 0 ? kReversedPolynomial : 0u);
    tables[0][byte] = crc;
  }
  for (size_t k = 1; k < tables.size(); ++k) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint32_t crc = tables[k - 1][byte];
      tables[k][byte] = (crc >> 8) ^ tables[0][crc & 0xFFu];
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

uint64_t load64(const std::byte* bytes) {
  uint64_t word = 0;
  std::memcpy(&word, bytes, sizeof(word));
  return word;
}

}  // namespace

uint32_t crc32c_by_table(std::span<const std::byte> bytes, uint32_t crc) {
  crc = ~crc;
  const std::byte* data = bytes.data();
  size_t left = bytes.size();
  for (; left >= 8; left -= 8, data += 8) {
    const uint64_t word = load64(data) ^ crc;
    crc = 0;
    for (size_t k = 0; k < 8; ++k) crc ^= kTables[7 - k][(word >> (8 * k)) & 0xFFu];
  }
  for (; left > 0; --left, ++data) crc = (crc >> 8) ^ kTables[0][(crc ^ static_cast<uint32_t>(*data)) & 0xFFu];
  return ~crc;
}

#if defined(__x86_64__)

bool has_crc32c_instruction() { return __builtin_cpu_supports("sse4.2") != 0; }

__attribute__((target("sse4.2"))) uint32_t crc32c_by_instruction(std::span<const std::byte> bytes, uint32_t crc) {
  uint64_t state = ~crc;
  const std::byte* data = bytes.data();
  size_t left = bytes.size();
  for (; left >= 8; left -= 8, data += 8) state = _mm_crc32_u64(state, load64(data));
  auto crc_register = static_cast<uint32_t>(state);
  for (; left > 0; --left, ++data) crc_register = _mm_crc32_u8(crc_register, static_cast<unsigned char>(*data));
  return ~crc_register;
}

#else

bool has_crc32c_instruction() { return false; }

uint32_t crc32c_by_instruction(std::span<const std::byte>, uint32_t) {
  fail_check(__FILE__, __LINE__, "has_crc32c_instruction()", "this processor has no CRC-32C instruction that we use");
}

#endif

}  // namespace detail

uint32_t crc32c(std::span<const std::byte> bytes, uint32_t crc) {
  static const bool has_instruction = detail::has_crc32c_instruction();
  return has_instruction ? detail::crc32c_by_instruction(bytes, crc) : detail::crc32c_by_table(bytes, crc);
}

uint32_t crc32c(std::string_view bytes, uint32_t crc) {
  return crc32c(std::as_bytes(std::span(bytes.data(), bytes.size())), crc);
}

}  // namespace gato
