#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "gato/core/file.h"

namespace gato::episode {

/// The content of a file front to back, decompressed where it is gzip, zlib or zstd. Used by one thread.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// Fills as much of `out` as there is; less than its size only at the end. Throws DataError naming file and offset
  /// for damaged or truncated compressed data, and for data that expands too much.
  [[nodiscard]] virtual size_t read(std::span<char> out) = 0;
  /// Bytes of the file taken so far; below them when compressed.
  [[nodiscard]] virtual uint64_t position() const = 0;
  /// Upper bound of what is left, where it is known: uncompressed files. Else UINT64_MAX.
  [[nodiscard]] virtual uint64_t remaining() const = 0;
};

struct DecompressionLimits {
  uint64_t ratio = 200;                 ///< Bytes out per byte in ...
  uint64_t slack = uint64_t{64} << 20;  ///< ... beyond this many bytes out.
  uint64_t most = uint64_t{1} << 40;    ///< Bytes out of one file.
  int zstd_window_log = 27;             ///< 128 MiB of memory.
};

enum class Compression {
  kByMagic,  ///< gzip, zstd or none, by the first bytes.
  kNone,
  kGzip,
  kZlib,
  kZstd,
};

/// Compression is never seen by the name.
[[nodiscard]] std::unique_ptr<ByteSource> open_byte_source(const Path& path, DecompressionLimits limits = {},
                                                           Compression compression = Compression::kByMagic);

/// The same over bytes in memory, which must outlive it; `origin` instead of a file name in messages.
[[nodiscard]] std::unique_ptr<ByteSource> open_byte_source(std::span<const std::byte> bytes, const std::string& origin,
                                                           DecompressionLimits limits = {},
                                                           Compression compression = Compression::kByMagic);

}  // namespace gato::episode
