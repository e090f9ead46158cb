#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gato/core/file.h"

/// Where the bytes of a TFRecord file come from: the file itself, or what its compression gives back.
namespace gato::episode {

/// Bytes read front to back. Used by one thread.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  /// Fills `out` from its front and returns how many bytes it got: fewer than asked for only at the end.
  virtual size_t read(std::span<std::byte> out) = 0;
  [[nodiscard]] virtual uint64_t consumed() const = 0;  ///< Bytes of the file that were needed so far.
  /// Bytes that are still to come, where that is known.
  [[nodiscard]] virtual std::optional<uint64_t> remaining() const = 0;
};

/// A file's bytes as they are.
[[nodiscard]] std::unique_ptr<ByteSource> file_bytes(const Path& path);

/// Bytes in memory, which must stay there.
[[nodiscard]] std::unique_ptr<ByteSource> memory_bytes(std::string_view bytes);

enum class DeflateFormat { kGzip, kZlib };

/// How far compressed bytes may expand before they are taken for an attack (ecosystem.md C9).
struct InflateLimits {
  uint64_t max_ratio = 200;                    ///< Output bytes per input byte ...
  uint64_t ratio_slack = uint64_t{16} << 20;   ///< ... beyond this much output.
  uint64_t max_output = uint64_t{1024} << 30;  ///< Output bytes of one file.
};

/// What `input` holds, uncompressed. Several gzip members behind each other are one stream. Throws DataError naming
/// `name` and the offset in the file for damaged or truncated data, bytes behind its end, and more than the limits.
[[nodiscard]] std::unique_ptr<ByteSource> inflated_bytes(std::unique_ptr<ByteSource> input, DeflateFormat format,
                                                         std::string name, InflateLimits limits = {});

/// Uncompresses one zlib stream that must give exactly `out.size()` bytes; DataError starting with `origin` otherwise.
void inflate_exactly(std::string_view bytes, std::span<std::byte> out, const std::string& origin);

}  // namespace gato::episode
