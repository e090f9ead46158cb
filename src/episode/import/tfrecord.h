#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "episode/import/byte_source.h"
#include "gato/core/file.h"

/// TFRecord files: 8 bytes of little-endian length, 4 bytes of its masked CRC-32C, the payload, 4 bytes of the
/// payload's masked CRC-32C. The mask turns a CRC right by 15 bits and adds 0xa282ead8, so that a CRC of CRCs keeps its
/// strength.
namespace gato::episode {

/// The CRC-32C as TFRecord files store it.
[[nodiscard]] uint32_t masked_crc32c(std::string_view bytes);

struct TfRecordLimits {
  uint64_t max_record_bytes = uint64_t{256} << 20;
  DecompressionLimits decompression;
};

/// Reads the records of one file in order, checking both CRCs of each. Used by one thread. Takes memory for a payload
/// only as far as the file has bytes for it.
class TfRecordReader {
 public:
  /// `name` is the file's in messages.
  TfRecordReader(std::unique_ptr<ByteSource> source, std::string name, TfRecordLimits limits = {});

  /// The next record's payload; false at the end. Throws DataError naming the file, the record's number and its offset
  /// for broken framing: nothing after it can be read. `damage` says where and how the content alone is damaged (the
  /// records after it can be read); empty: it is whole.
  bool next(std::string& payload, std::string& damage);
  /// The same, but damaged content is a DataError too.
  bool next(std::string& payload);

  [[nodiscard]] int64_t count() const { return count_; }     ///< Records read so far.
  [[nodiscard]] uint64_t offset() const { return offset_; }  ///< Of the last record's header, uncompressed.
  [[nodiscard]] uint64_t position() const { return source_->position(); }  ///< Bytes of the file read so far.

 private:
  [[nodiscard]] std::string place() const;
  [[noreturn]] void fail(std::string_view problem) const;
  /// False: its checksum is wrong.
  [[nodiscard]] bool read_payload(uint64_t length, std::string& payload);

  std::unique_ptr<ByteSource> source_;
  std::string name_;
  TfRecordLimits limits_;
  int64_t count_ = 0;
  uint64_t offset_ = 0, next_offset_ = 0;
};

/// The records of a file that may be compressed by gzip or zlib. `compression` kByMagic finds that out: by the first
/// record's checksum before anything else, for a length can look like the magic of gzip. Throws IoError when the file
/// cannot be read, DataError when it begins with neither a record nor gzip or zlib data.
[[nodiscard]] TfRecordReader open_tfrecord(const Path& path, Compression compression = Compression::kByMagic,
                                           const TfRecordLimits& limits = {});

/// The same for bytes in memory, which must stay there; `name` is for messages.
[[nodiscard]] TfRecordReader tfrecord_in_memory(std::string_view bytes, const std::string& name,
                                                Compression compression = Compression::kByMagic,
                                                const TfRecordLimits& limits = {});

}  // namespace gato::episode
