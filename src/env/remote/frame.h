#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

/// Frames between gato and a worker: docs/environments.md, section "Protocol". Little-endian: magic, version, type and
/// length of the body, CRC-32C of these and the body, body. tools/env_worker/frames.py is the counterpart.
namespace gato::env::remote {

constexpr uint32_t kFrameMagic = 0x764E4547;  // "GENv"
constexpr uint16_t kProtocolVersion = 1;
constexpr size_t kFrameHeaderBytes = 16;
constexpr uint32_t kMaxBodyBytes = uint32_t{64} << 20;

enum class FrameType : uint16_t { kRequest = 1, kReply = 2 };

/// `body` (at most kMaxBodyBytes, else ContractError) as a frame.
[[nodiscard]] std::string make_frame(FrameType type, std::string_view body);

/// Takes the bytes of a stream as they come, and gives back bodies of frames of one type. Never holds more than has
/// come.
class FrameReader {
 public:
  explicit FrameReader(FrameType type) : type_(type) {}

  void append(std::string_view bytes) { buffer_ += bytes; }
  /// The body of the next whole frame; nothing when more bytes are needed. DataError for anything but a frame of the
  /// type: nothing useful comes after it.
  [[nodiscard]] std::optional<std::string> next();
  /// Whether bytes are left that no frame used.
  [[nodiscard]] bool has_rest() const { return !buffer_.empty(); }

 private:
  FrameType type_;
  std::string buffer_;
};

}  // namespace gato::env::remote
