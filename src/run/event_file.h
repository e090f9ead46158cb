#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "gato/run/metrics.h"

/// The bytes of TensorBoard's event files: TFRecord framing around Event messages.
namespace gato::run {

[[nodiscard]] std::string little_endian(uint64_t value, int bytes);

/// The checksum of TFRecord: CRC-32C rotated right by 15 bits, plus a constant.
[[nodiscard]] uint32_t masked_crc32c(std::string_view bytes);

/// One record: length (8 bytes), its checksum (4), data, their checksum (4), all little-endian.
[[nodiscard]] std::string tfrecord(std::string_view data);

// Event messages; `time` in seconds since 1970.
[[nodiscard]] std::string version_event(double time);              ///< Must be a file's first.
[[nodiscard]] std::string start_event(double time, int64_t step);  ///< A program (re)starts before `step`.
[[nodiscard]] std::string scalars_event(double time, int64_t step, const MetricValues& values);

}  // namespace gato::run
