#include "env/remote/frame.h"

#include <bit>
#include <cstring>

#include "gato/core/error.h"
#include "gato/core/file.h"

namespace gato::env::remote {

namespace {

static_assert(std::endian::native == std::endian::little, "frames are written as they lie in memory");

struct Head {
  uint32_t magic = kFrameMagic;
  uint16_t version = kProtocolVersion;
  uint16_t type = 0;
  uint32_t length = 0;
};
static_assert(sizeof(Head) + sizeof(uint32_t) == kFrameHeaderBytes);

uint32_t checksum_of(const Head& head, std::string_view body) {
  return crc32c(body, crc32c(std::string_view(reinterpret_cast<const char*>(&head), sizeof head)));
}

}  // namespace

std::string make_frame(FrameType type, std::string_view body) {
  GATO_CHECK(body.size() <= kMaxBodyBytes, "a frame of ", body.size(), " bytes; at most ", kMaxBodyBytes, " fit");
  Head head;
  head.type = static_cast<uint16_t>(type);
  head.length = static_cast<uint32_t>(body.size());
  const uint32_t checksum = checksum_of(head, body);
  std::string frame;
  frame.reserve(kFrameHeaderBytes + body.size());
  frame.append(reinterpret_cast<const char*>(&head), sizeof head);
  frame.append(reinterpret_cast<const char*>(&checksum), sizeof checksum);
  frame += body;
  return frame;
}

std::optional<std::string> FrameReader::next() {
  if (buffer_.size() < kFrameHeaderBytes) return std::nullopt;
  Head head;
  uint32_t checksum = 0;
  std::memcpy(&head, buffer_.data(), sizeof head);
  std::memcpy(&checksum, buffer_.data() + sizeof head, sizeof checksum);
  if (head.magic != kFrameMagic) throw DataError("what came is not a frame: it begins with other bytes than GENv");
  if (head.version != kProtocolVersion) {
    throw DataError(cat("a frame of protocol ", head.version, " came; this program speaks ", kProtocolVersion));
  }
  if (head.type != static_cast<uint16_t>(type_)) throw DataError(cat("a frame of type ", head.type, " came"));
  if (head.length > kMaxBodyBytes) {
    throw DataError(cat("a frame claims ", head.length, " bytes; at most ", kMaxBodyBytes, " are allowed"));
  }
  if (buffer_.size() - kFrameHeaderBytes < head.length) return std::nullopt;
  std::string body = buffer_.substr(kFrameHeaderBytes, head.length);
  if (checksum_of(head, body) != checksum) throw DataError("a frame has a wrong checksum");
  buffer_.erase(0, kFrameHeaderBytes + head.length);
  return body;
}

}  // namespace gato::env::remote
