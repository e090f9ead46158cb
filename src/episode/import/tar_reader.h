#pragma once
#include <cstdint>
#include <memory>
#include <string>

#include "episode/import/byte_source.h"

namespace gato::episode {

/// What a tar file says about one of its members.
struct TarEntry {
  std::string name;      ///< The whole path, from GNU or pax extensions where there are some.
  uint64_t size = 0;     ///< Bytes of content.
  uint64_t offset = 0;   ///< Of its first header, in the (decompressed) archive.
  bool regular = false;  ///< A file with content; else a folder, a link or a device.
};

struct TarLimits {
  uint64_t max_member_bytes = uint64_t{256} << 20;  ///< Of one member that is read.
  uint64_t max_name_bytes = 4096;
  uint64_t max_extension_bytes = uint64_t{1} << 20;  ///< Of one GNU long name or pax header.
};

/// Reads tar files of the kinds v7, ustar, GNU and pax front to back. Everything that cannot be followed exactly is a
/// DataError naming file and offset: wrong checksums and numbers, sparse and multi-volume members, unknown kinds, an
/// archive without its end mark (it was cut short) or with data behind it. Used by one thread.
class TarReader {
 public:
  TarReader(std::unique_ptr<ByteSource> source, std::string origin, TarLimits limits = {});

  /// The next member; what was not read of the last one is passed over. False at the end of the archive.
  bool next(TarEntry& entry);
  /// The content of the member that next() gave. Takes no more memory than the archive has bytes.
  [[nodiscard]] std::string read_content();
  [[nodiscard]] uint64_t position() const { return source_->position(); }

 private:
  struct Extensions;
  [[noreturn]] void fail(std::string_view problem) const;
  bool read_header(std::string& block);
  void read_exactly(char* to, size_t count);
  std::string read_bytes(uint64_t count);
  void skip(uint64_t count);
  void check_rest();
  void apply_extension(char type, uint64_t size, Extensions& extensions);
  void apply_pax(const std::string& records, bool global, Extensions& extensions);
  TarEntry make_entry(const std::string& block, char type, const Extensions& extensions) const;

  std::unique_ptr<ByteSource> source_;
  std::string origin_;
  TarLimits limits_;
  uint64_t offset_ = 0;         ///< Of the next byte.
  uint64_t header_offset_ = 0;  ///< Of the header being looked at.
  uint64_t content_ = 0;        ///< Bytes of content not yet read.
  uint64_t padding_ = 0;        ///< After it, to a multiple of 512.
  bool ended_ = false;
};

}  // namespace gato::episode
