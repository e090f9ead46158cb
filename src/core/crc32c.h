#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

/// The two ways to compute a CRC-32C; crc32c() of file.h chooses at run time, tests compare them.
namespace gato::detail {

/// Eight table lookups per eight bytes; runs anywhere. `crc` is the finished CRC of what came before, 0 to start.
[[nodiscard]] uint32_t crc32c_by_table(std::span<const std::byte> bytes, uint32_t crc);

/// Whether crc32c_by_instruction may be called on this processor.
[[nodiscard]] bool has_crc32c_instruction();

/// The SSE4.2 instruction; only where has_crc32c_instruction().
[[nodiscard]] uint32_t crc32c_by_instruction(std::span<const std::byte> bytes, uint32_t crc);

}  // namespace gato::detail
