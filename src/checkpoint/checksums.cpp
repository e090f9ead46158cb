#include "checkpoint/checksums.h"

#include <algorithm>
#include <new>
#include <string_view>
#include <utility>

namespace gato::checkpoint {
namespace {

std::string hex_of(XXH128_hash_t hash) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  XXH128_canonical_t canonical{};
  XXH128_canonicalFromHash(&canonical, hash);
  std::string hex;
  for (const unsigned char byte : canonical.digest) {
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

}  // namespace

FileChecksums::FileChecksums() : digest_(XXH3_createState(), &XXH3_freeState) {
  if (!digest_) throw std::bad_alloc();
  XXH3_128bits_reset(digest_.get());
}

void FileChecksums::update(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const uint64_t room = kChunkBytes - size_ % kChunkBytes;
    const auto piece = bytes.first(static_cast<size_t>(std::min<uint64_t>(room, bytes.size())));
    XXH3_128bits_update(digest_.get(), piece.data(), piece.size());
    chunk_crc_ = crc32c(piece, chunk_crc_);
    size_ += piece.size();
    if (piece.size() == room) crc32c_.push_back(std::exchange(chunk_crc_, 0));
    bytes = bytes.subspan(piece.size());
  }
}

FileEntry FileChecksums::finish(const std::string& name) {
  if (size_ % kChunkBytes != 0) crc32c_.push_back(chunk_crc_);
  return {name, size_, hex_of(XXH3_128bits_digest(digest_.get())), std::move(crc32c_)};
}

FileEntry checksums_of_file(const Path& path, const std::string& name) {
  const InputFile file(path);
  FileChecksums checksums;
  std::vector<std::byte> piece(static_cast<size_t>(std::min(kChunkBytes, file.size())));
  for (uint64_t offset = 0; offset < file.size();) {
    const auto part = std::span(piece).first(static_cast<size_t>(std::min(kChunkBytes, file.size() - offset)));
    file.read_at(offset, part);
    checksums.update(part);
    offset += part.size();
  }
  return checksums.finish(name);
}

}  // namespace gato::checkpoint
