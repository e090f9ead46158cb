#pragma once
#include <zlib.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "episode/import/tfrecord.h"

/// TFRecord files and examples as their writers make them, and as they must not be.
namespace gato::episode::forge {

inline std::string little_endian(uint64_t value, size_t bytes) {
  std::string out;
  for (size_t i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
  return out;
}

/// A length with its checksum, whatever follows.
inline std::string tfrecord_header(uint64_t length) {
  const std::string bytes = little_endian(length, 8);
  return bytes + little_endian(masked_crc32c(bytes), 4);
}

inline std::string tfrecord(std::string_view payload) {
  return tfrecord_header(payload.size()) + std::string(payload) + little_endian(masked_crc32c(payload), 4);
}

inline std::string varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}

/// A field of wire type 2.
inline std::string field(uint32_t number, std::string_view content) {
  return varint(number << 3 | 2) + varint(content.size()) + std::string(content);
}

inline std::string floats(const std::vector<float>& values) {
  std::string packed(values.size() * sizeof(float), '\0');
  if (!values.empty()) std::memcpy(packed.data(), values.data(), packed.size());
  return field(2, field(1, packed));
}

inline std::string integers(const std::vector<int64_t>& values) {
  std::string packed;
  for (const int64_t value : values) packed += varint(static_cast<uint64_t>(value));
  return field(3, field(1, packed));
}

inline std::string strings(const std::vector<std::string>& values) {
  std::string list;
  for (const std::string& value : values) list += field(1, value);
  return field(1, list);
}

/// Key -> feature, as the functions above make it.
using Features = std::map<std::string, std::string>;

inline std::string example(const Features& features) {
  std::string map;
  for (const auto& [key, feature] : features) map += field(1, field(1, key) + field(2, feature));
  return field(1, map);
}

/// `bytes` compressed by zlib in gzip's or in zlib's own format.
inline std::string deflated(std::string_view bytes, bool gzip) {
  z_stream stream{};
  deflateInit2(&stream, Z_BEST_COMPRESSION, Z_DEFLATED, gzip ? 15 + 16 : 15, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, static_cast<uLong>(bytes.size())) + 32, '\0');
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(out.size() - stream.avail_out);
  deflateEnd(&stream);
  return out;
}

}  // namespace gato::episode::forge
