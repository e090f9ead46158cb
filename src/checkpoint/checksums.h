#pragma once
#include <xxhash.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "gato/checkpoint/manifest.h"
#include "gato/core/file.h"

namespace gato::checkpoint {

/// Computes a file's size, digest and chunk checksums from its bytes, given front to back in pieces of any size.
class FileChecksums {
 public:
  FileChecksums();
  void update(std::span<const std::byte> bytes);
  /// The entry of the file. Call once.
  [[nodiscard]] FileEntry finish(const std::string& name);

 private:
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> digest_;
  uint64_t size_ = 0;
  uint32_t chunk_crc_ = 0;
  std::vector<uint32_t> crc32c_;
};

/// Number of checksums of a file of `size` bytes.
[[nodiscard]] constexpr uint64_t num_chunks(uint64_t size) { return size / kChunkBytes + (size % kChunkBytes != 0); }

/// Reads the file at `path` once. IoError or DataError when that fails.
[[nodiscard]] FileEntry checksums_of_file(const Path& path, const std::string& name);

}  // namespace gato::checkpoint
