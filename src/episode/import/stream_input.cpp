#include "episode/import/stream_input.h"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "episode/import/byte_source.h"
#include "gato/core/error.h"
#include "gato/core/signals.h"
#include "gato/core/text.h"

namespace gato::episode {
namespace {

constexpr size_t kBufferBytes = size_t{64} << 10;
constexpr int kPollMilliseconds = 200;  // How soon a stop signal is noticed while a pipe is silent.
constexpr uint64_t kMaxRatio = 1000;    // Numbers may be all alike.

class DescriptorInput : public ByteInput {
 public:
  DescriptorInput(int descriptor, std::string name) : descriptor_(descriptor), name_(std::move(name)) {
    struct stat status {};
    if (::fstat(descriptor_, &status) == 0 && S_ISREG(status.st_mode)) size_ = static_cast<uint64_t>(status.st_size);
  }

  size_t read(char* out, size_t size) override {
    if (!size_) wait();
    for (;;) {
      const ssize_t count = ::read(descriptor_, out, size);
      if (count >= 0) {
        // A terminal stops the program that writes as well: its end is then no news.
        if (count == 0 && size > 0) throw_if_stopped("waiting for the stream");
        position_ += static_cast<uint64_t>(count);
        return static_cast<size_t>(count);
      }
      if (errno != EINTR && errno != EAGAIN) {
        throw IoError(cat(name_, ": cannot be read: ", std::strerror(errno)), errno);
      }
      wait();
    }
  }

  [[nodiscard]] std::optional<uint64_t> remaining() const override {
    if (!size_) return std::nullopt;
    return *size_ - std::min(*size_, position_);
  }
  [[nodiscard]] uint64_t position() const override { return position_; }

 private:
  /// Until there is something to read: a read that waits would not notice a signal.
  void wait() const {
    for (;;) {
      throw_if_stopped("waiting for the stream");
      pollfd entry{descriptor_, POLLIN, 0};
      const int ready = ::poll(&entry, 1, kPollMilliseconds);
      if (ready > 0) return;
      if (ready < 0 && errno != EINTR) {
        throw IoError(cat(name_, ": cannot be waited for: ", std::strerror(errno)), errno);
      }
    }
  }

  int descriptor_;
  std::string name_;
  std::optional<uint64_t> size_;  ///< Of a regular file.
  uint64_t position_ = 0;
};

class FileInput : public ByteInput {
 public:
  explicit FileInput(const Path& path) : source_(open_byte_source(path, {.ratio = kMaxRatio})) {}
  size_t read(char* out, size_t size) override { return source_->read({out, size}); }
  [[nodiscard]] std::optional<uint64_t> remaining() const override {
    const uint64_t remaining = source_->remaining();
    if (remaining == std::numeric_limits<uint64_t>::max()) return std::nullopt;
    return remaining;
  }
  [[nodiscard]] uint64_t position() const override { return source_->position(); }

 private:
  std::unique_ptr<ByteSource> source_;
};

}  // namespace

std::unique_ptr<ByteInput> descriptor_input(int descriptor, std::string name) {
  return std::make_unique<DescriptorInput>(descriptor, std::move(name));
}

std::unique_ptr<ByteInput> file_input(const Path& path) { return std::make_unique<FileInput>(path); }

FrameReader::FrameReader(std::unique_ptr<ByteInput> input, std::string name)
    : input_(std::move(input)), name_(std::move(name)) {}

bool FrameReader::fill() {
  buffer_.resize(kBufferBytes);  // Once.
  filled_ = input_->read(buffer_.data(), buffer_.size());
  used_ = 0;
  return filled_ > 0;
}

bool FrameReader::read_byte(unsigned char& byte) {
  if (used_ == filled_ && !fill()) return false;
  byte = static_cast<unsigned char>(buffer_[used_++]);
  ++offset_;
  return true;
}

void FrameReader::fail(const std::string& problem) const {
  throw DataError(cat(name_, ": frame at byte ", frame_offset_, ": ", problem));
}

bool FrameReader::read_size(uint64_t& size) {
  frame_offset_ = offset_;
  size = 0;
  for (unsigned shift = 0; shift < 35; shift += 7) {
    unsigned char byte = 0;
    if (!read_byte(byte)) {
      if (shift == 0) return false;
      fail("the stream ends inside a frame's size; its writer stopped early");
    }
    size |= static_cast<uint64_t>(byte & 0x7fu) << shift;
    if ((byte & 0x80u) == 0) return true;
  }
  fail("its size is not a varint of at most five bytes; this is no episode stream, or it is damaged");
}

bool FrameReader::next(std::string& frame) {
  frame.clear();
  uint64_t size = 0;
  if (!read_size(size)) return false;
  if (size == 0 || size > kMaxFrameBytes) {
    fail(cat("a size of ", size, " bytes: must be 1 to ", kMaxFrameBytes,
             "; cut longer episodes into parts, or look whether this is an episode stream"));
  }
  const std::optional<uint64_t> remaining = input_->remaining();
  if (remaining && size > *remaining + (filled_ - used_)) {
    fail(cat("it should have ", size, " bytes, but the file ends ", *remaining + (filled_ - used_),
             " bytes behind its size; the file was cut off"));
  }
  // A pipe's promise of a size is believed as bytes arrive.
  while (frame.size() < size) {
    if (used_ == filled_ && !fill()) {
      fail(cat("it should have ", size, " bytes, but the stream ends after ", frame.size(),
               " of them; its writer stopped early"));
    }
    const size_t count = std::min<size_t>(filled_ - used_, static_cast<size_t>(size - frame.size()));
    if (frame.size() + count > frame.capacity()) {
      frame.reserve(std::min<size_t>(static_cast<size_t>(size), 2 * (frame.size() + count)));
    }
    frame.append(buffer_, used_, count);
    used_ += count;
    offset_ += count;
  }
  return true;
}

}  // namespace gato::episode
