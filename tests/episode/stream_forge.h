#pragma once
#include <zlib.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "gato/episode/episode.h"

/// Episode streams written by hand, good ones and bad ones (docs/formats/stream.md).
namespace gato::episode::stream_forge {

inline std::string varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(static_cast<unsigned char>((value & 0x7f) | 0x80));
  out += static_cast<char>(static_cast<unsigned char>(value));
  return out;
}

inline std::string number(uint32_t field, uint64_t value) { return varint(field << 3) + varint(value); }
inline std::string bytes(uint32_t field, std::string_view content) {
  return varint(field << 3 | 2) + varint(content.size()) + std::string(content);
}
inline std::string floats(uint32_t field, const std::vector<float>& values) {
  return bytes(field, {reinterpret_cast<const char*>(values.data()), 4 * values.size()});
}
inline std::string fixed32(uint32_t field, uint32_t value) {
  std::string out = varint(field << 3 | 5);
  out.append(reinterpret_cast<const char*>(&value), 4);
  return out;
}

inline std::string field(const FieldSpec& spec) {
  std::string shape;
  for (const int64_t size : spec.shape) shape += varint(static_cast<uint64_t>(size));
  return bytes(1, spec.name) + number(2, static_cast<uint64_t>(spec.modality)) + bytes(3, shape) +
         number(4, static_cast<uint64_t>(spec.num_values)) + floats(5, spec.low) + floats(6, spec.high) +
         number(7, static_cast<uint64_t>(spec.codec)) + bytes(8, spec.unit);
}

inline std::string returns(const ReturnRecord& record) {
  std::string out = varint(1 << 3 | 1);
  out.append(reinterpret_cast<const char*>(&record.mean), 8);
  out += varint(2 << 3 | 1);
  out.append(reinterpret_cast<const char*>(&record.standard_error), 8);
  return out + number(3, static_cast<uint64_t>(record.episodes));
}

inline std::string task(const TaskSpec& spec) {
  std::string out = bytes(1, spec.id) + bytes(2, spec.description);
  for (const FieldSpec& each : spec.observation) out += bytes(3, field(each));
  for (const FieldSpec& each : spec.action) out += bytes(4, field(each));
  return out + number(5, static_cast<uint64_t>(spec.scoring)) + number(6, spec.partial_view ? 1 : 0) +
         number(7, static_cast<uint64_t>(spec.max_steps)) + bytes(8, returns(spec.expert)) +
         bytes(9, returns(spec.random)) + bytes(10, spec.licence);
}

inline std::string header(const std::vector<TaskSpec>& tasks, uint64_t version = 1) {
  std::string dataset = bytes(1, "sample/stream") + bytes(3, "CC0-1.0");
  for (const TaskSpec& spec : tasks) dataset += bytes(5, task(spec));
  return number(1, version) + bytes(2, dataset) + bytes(3, "a: became b");
}

/// `packed`: numbers as one piece, else each with its own tag.
inline std::string column(const Column& values, bool packed = true) {
  std::string out, discrete;
  if (packed) {
    if (!values.continuous.empty()) out += floats(1, values.continuous);
    for (const int32_t value : values.discrete) discrete += varint(static_cast<uint64_t>(value));
    if (!discrete.empty()) out += bytes(2, discrete);
  } else {
    for (const float value : values.continuous) {
      uint32_t bits = 0;
      std::memcpy(&bits, &value, 4);
      out += fixed32(1, bits);
    }
    for (const int32_t value : values.discrete) out += number(2, static_cast<uint64_t>(value));
  }
  for (const std::string& text : values.text) out += bytes(3, text);
  for (const std::string& image : values.encoded) out += bytes(4, image);
  for (const Image& image : values.images) out += bytes(4, encode_png(image));
  return out;
}

inline std::string episode(uint64_t task_number, const Episode& from, bool packed = true) {
  std::string out = number(1, task_number) + bytes(2, from.id) + bytes(3, from.source_agent) + number(4, from.seed) +
                    number(5, static_cast<uint64_t>(from.num_steps));
  for (const Column& each : from.observation) out += bytes(6, column(each, packed));
  for (const Column& each : from.action) out += bytes(7, column(each, packed));
  for (const Column& each : from.label) out += bytes(8, column(each, packed));
  if (!from.reward.empty()) out += floats(9, from.reward);
  out += number(10, from.terminated ? 1 : 0) + number(11, from.truncated ? 1 : 0);
  if (from.success) out += number(12, *from.success ? 1 : 0);
  return out;
}

inline std::string end(uint64_t episodes, uint64_t steps, uint64_t dropped = 0) {
  return number(1, episodes) + number(2, steps) + number(3, dropped);
}

enum Kind : uint32_t { kHeader = 1, kEpisode = 2, kDropped = 3, kEnd = 4 };

/// A frame with its size in front; `checked`: with its checksum.
inline std::string frame(uint32_t kind, std::string_view content, bool checked = true) {
  std::string out = bytes(kind, content);
  if (checked) {
    out +=
        fixed32(5, static_cast<uint32_t>(::crc32_z(0, reinterpret_cast<const Bytef*>(content.data()), content.size())));
  }
  return varint(out.size()) + out;
}

}  // namespace gato::episode::stream_forge
