#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "gato/core/file.h"

/// The bytes of an episode stream and their cutting into frames: docs/formats/stream.md.
namespace gato::episode {

/// Bytes that can only be read forwards, of a file or a pipe. Used by one thread.
class ByteInput {
 public:
  virtual ~ByteInput() = default;
  /// Up to `size` bytes into `out`; 0 at the end only. Throws IoError, and Interrupted when a signal asked to stop
  /// while waiting.
  virtual size_t read(char* out, size_t size) = 0;
  /// Bytes that are still to come, where that is known.
  [[nodiscard]] virtual std::optional<uint64_t> remaining() const { return std::nullopt; }
  /// Bytes read from the file or pipe itself, for the progress.
  [[nodiscard]] virtual uint64_t position() const = 0;
};

/// Reads `descriptor`, which stays the caller's, as it is. `name` is for messages.
[[nodiscard]] std::unique_ptr<ByteInput> descriptor_input(int descriptor, std::string name);

/// The file's content, unpacked when it is gzip or zstd: at most 1000 times its size beyond the first 64 MiB.
[[nodiscard]] std::unique_ptr<ByteInput> file_input(const Path& path);

/// Cuts a stream into frames.
class FrameReader {
 public:
  /// Sizes above this are refused before memory is taken.
  static constexpr uint64_t kMaxFrameBytes = uint64_t{256} << 20;

  FrameReader(std::unique_ptr<ByteInput> input, std::string name);

  /// The next frame without its size; false at the end of the input. Throws DataError naming file and offset for a size
  /// over the limit or over what is left, and for an end inside a frame. Takes no more memory than there are bytes.
  bool next(std::string& frame);
  [[nodiscard]] uint64_t frame_offset() const { return frame_offset_; }  ///< Of the last frame's size, unpacked.
  [[nodiscard]] uint64_t input_position() const { return input_->position(); }
  [[nodiscard]] const std::string& name() const { return name_; }

 private:
  bool fill();  ///< More bytes into the empty buffer; false at the end.
  bool read_byte(unsigned char& byte);
  bool read_size(uint64_t& size);
  [[noreturn]] void fail(const std::string& problem) const;

  std::unique_ptr<ByteInput> input_;
  std::string name_;
  std::string buffer_;
  size_t used_ = 0, filled_ = 0;  ///< Of the buffer.
  uint64_t offset_ = 0;           ///< Of the next byte, unpacked.
  uint64_t frame_offset_ = 0;
};

}  // namespace gato::episode
