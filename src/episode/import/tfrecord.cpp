#include "episode/import/tfrecord.h"

#include <algorithm>
#include <utility>

#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::episode {
namespace {

constexpr size_t kLengthBytes = 8, kCrcBytes = 4;
constexpr size_t kHeaderBytes = kLengthBytes + kCrcBytes;
/// Memory taken for a payload beyond what has arrived, where the rest of the file is not known.
constexpr uint64_t kGrowth = uint64_t{1} << 20;

uint64_t little_endian(std::string_view bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes.size(); ++i) value |= uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
  return value;
}

/// Whether `bytes` begin with a record's length and its CRC.
bool begins_with_record(std::string_view bytes) {
  return bytes.size() >= kHeaderBytes &&
         masked_crc32c(bytes.substr(0, kLengthBytes)) == little_endian(bytes.substr(kLengthBytes, kCrcBytes));
}

/// By the first kHeaderBytes of a file of `size` bytes.
Compression detect(std::string_view head, const std::string& name) {
  const auto byte = [&](size_t i) { return i < head.size() ? static_cast<unsigned char>(head[i]) : 0u; };
  if (head.empty() || begins_with_record(head)) return Compression::kNone;
  if (byte(0) == 0x1f && byte(1) == 0x8b) return Compression::kGzip;
  // RFC 1950: method 8, a window of at most 32 KiB, and a check that makes the first two bytes a multiple of 31.
  if ((byte(0) & 0x0f) == 8 && byte(0) >> 4 <= 7 && (byte(0) << 8 | byte(1)) % 31 == 0) {
    return Compression::kZlib;
  }
  throw DataError(cat(name,
                      ": begins with neither a TFRecord (the checksum of its length is wrong) nor gzip or zlib data; "
                      "it is damaged or not a TFRecord file"));
}

/// The first bytes of a file as they are.
std::string head_of(ByteSource& source) {
  std::string head(kHeaderBytes, '\0');
  head.resize(source.read(head));
  return head;
}

}  // namespace

uint32_t masked_crc32c(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

TfRecordReader::TfRecordReader(std::unique_ptr<ByteSource> source, std::string name, TfRecordLimits limits)
    : source_(std::move(source)), name_(std::move(name)), limits_(limits) {}

std::string TfRecordReader::place() const { return cat(name_, ", record ", count_, " at byte ", offset_); }

void TfRecordReader::fail(std::string_view problem) const {
  throw DataError(cat(place(), ": ", problem, "; nothing after it can be read: fetch or make the file again"));
}

bool TfRecordReader::next(std::string& payload) {
  std::string damage;
  if (!next(payload, damage)) return false;
  if (!damage.empty()) throw DataError(damage);
  return true;
}

bool TfRecordReader::next(std::string& payload, std::string& damage) {
  damage.clear();
  offset_ = next_offset_;
  std::string header(kHeaderBytes, '\0');
  const size_t got = source_->read(header);
  if (got == 0) return false;
  if (got < kHeaderBytes) fail(cat("the file ends inside its header, after ", got, " of ", kHeaderBytes, " bytes"));
  const uint64_t length = little_endian(std::string_view(header).substr(0, kLengthBytes));
  if (!begins_with_record(header)) fail("the checksum of its length is wrong, the file is damaged here");
  if (length > limits_.max_record_bytes) {
    fail(cat("it is ", length, " bytes long, at most ", limits_.max_record_bytes, " are read"));
  }
  if (!read_payload(length, payload)) {
    damage = cat(place(), ": its checksum is wrong, its content is damaged; fetch or make the file again");
  }
  next_offset_ = offset_ + kHeaderBytes + length + kCrcBytes;
  ++count_;
  return true;
}

bool TfRecordReader::read_payload(uint64_t length, std::string& payload) {
  const uint64_t remaining = source_->remaining();  // The largest number where it is not known.
  const bool known = remaining != UINT64_MAX;
  const uint64_t size = length + kCrcBytes;
  if (remaining < size) {
    fail(cat("it is ", length, " bytes long, but only ", remaining, " bytes follow; the file is truncated"));
  }
  payload.clear();
  while (payload.size() < size) {
    const size_t begin = payload.size();
    const uint64_t step = known ? size : std::max<uint64_t>(kGrowth, begin);
    payload.resize(static_cast<size_t>(std::min<uint64_t>(size, begin + step)));
    if (source_->read(std::span(payload).subspan(begin)) < payload.size() - begin) {
      fail(cat("the file ends inside its ", length, " bytes; it is truncated"));
    }
  }
  const uint64_t checksum = little_endian(std::string_view(payload).substr(static_cast<size_t>(length)));
  payload.resize(static_cast<size_t>(length));
  return masked_crc32c(payload) == checksum;
}

TfRecordReader open_tfrecord(const Path& path, Compression compression, const TfRecordLimits& limits) {
  if (compression == Compression::kByMagic) {
    compression = detect(head_of(*open_byte_source(path, {}, Compression::kNone)), path.string());
  }
  return {open_byte_source(path, limits.decompression, compression), path.string(), limits};
}

TfRecordReader tfrecord_in_memory(std::string_view bytes, const std::string& name, Compression compression,
                                  const TfRecordLimits& limits) {
  if (compression == Compression::kByMagic) compression = detect(bytes.substr(0, kHeaderBytes), name);
  return {open_byte_source(std::as_bytes(std::span(bytes)), name, limits.decompression, compression), name, limits};
}

}  // namespace gato::episode
