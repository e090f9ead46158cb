#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gato/checkpoint/safetensors.h"

/// The header of a safetensors file: 8 bytes of length (little-endian), then JSON of that length, then the data.
namespace gato::checkpoint {

inline constexpr uint64_t kHeaderLengthBytes = 8;
inline constexpr std::string_view kMetadataKey = "__metadata__";

/// product(shape), or nothing when it does not fit int64 or a size is negative. Multiplied from the left, so that a
/// later 0 does not undo an overflow (as the reference implementation does).
[[nodiscard]] std::optional<int64_t> checked_product(const std::vector<int64_t>& shape);

/// Bytes of `elements` elements, or nothing when they do not fill whole bytes or the number does not fit.
[[nodiscard]] std::optional<uint64_t> checked_byte_size(int64_t elements, Dtype dtype);

/// Checks the length field of a file of `file_size` bytes and returns it. CheckpointError.
[[nodiscard]] uint64_t check_header_length(uint64_t header_length, uint64_t file_size, const std::string& origin,
                                           const SafetensorsLimits& limits);

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  ///< In the order of their bytes.
  std::vector<size_t> by_name;      ///< Indices into `tensors`, sorted by name.
  std::map<std::string, std::string> metadata;
};

/// Parses the JSON text of a header whose length was checked, and checks it against the file's size. CheckpointError.
[[nodiscard]] SafetensorsHeader parse_safetensors_header(std::string_view json, uint64_t file_size,
                                                         const std::string& origin, const SafetensorsLimits& limits);

}  // namespace gato::checkpoint
