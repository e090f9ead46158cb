#include "episode/import/stream_input.h"

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "gato/core/error.h"
#include "gato/core/signals.h"
#include "gato/core/text.h"

namespace gato::episode {
namespace {

constexpr size_t kBufferBytes = size_t{64} << 10;
constexpr int kPollMilliseconds = 200;  // How soon a stop signal is noticed while a pipe is silent.
constexpr std::string_view kZstdMagic = "\x28\xb5\x2f\xfd";
constexpr int kMaxWindowLog = 27;
constexpr uint64_t kMaxRatio = 1000, kFreeBytes = uint64_t{64} << 20;

class DescriptorInput : public ByteInput {
 public:
  DescriptorInput(int descriptor, bool owned, std::string name)
      : descriptor_(descriptor), owned_(owned), name_(std::move(name)) {
    struct stat status {};
    if (::fstat(descriptor_, &status) == 0 && S_ISREG(status.st_mode)) size_ = static_cast<uint64_t>(status.st_size);
  }
  DescriptorInput(const DescriptorInput&) = delete;
  DescriptorInput& operator=(const DescriptorInput&) = delete;
  ~DescriptorInput() override {
    if (owned_) ::close(descriptor_);
  }

  size_t read(char* out, size_t size) override {
    if (!size_) wait();
    for (;;) {
      const ssize_t count = ::read(descriptor_, out, size);
      if (count >= 0) {
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
  bool owned_;
  std::string name_;
  std::optional<uint64_t> size_;  ///< Of a regular file.
  uint64_t position_ = 0;
};

/// What was read to look at it, then the rest.
class PeekedInput : public ByteInput {
 public:
  PeekedInput(std::string peeked, std::unique_ptr<ByteInput> rest)
      : peeked_(std::move(peeked)), rest_(std::move(rest)) {}
  size_t read(char* out, size_t size) override {
    if (used_ == peeked_.size()) return rest_->read(out, size);
    const size_t count = std::min(size, peeked_.size() - used_);
    std::memcpy(out, peeked_.data() + used_, count);
    used_ += count;
    return count;
  }
  [[nodiscard]] std::optional<uint64_t> remaining() const override {
    const std::optional<uint64_t> rest = rest_->remaining();
    if (!rest) return std::nullopt;
    return *rest + peeked_.size() - used_;
  }
  [[nodiscard]] uint64_t position() const override { return rest_->position(); }

 private:
  std::string peeked_;
  size_t used_ = 0;
  std::unique_ptr<ByteInput> rest_;
};

class ZstdInput : public ByteInput {
 public:
  ZstdInput(std::unique_ptr<ByteInput> packed, std::string name)
      : packed_(std::move(packed)), name_(std::move(name)), context_(ZSTD_createDCtx()), buffer_(kBufferBytes, '\0') {
    GATO_CHECK(context_ != nullptr, "no memory for a zstd context");
    ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, kMaxWindowLog);
  }

  size_t read(char* out, size_t size) override {
    ZSTD_outBuffer to{out, size, 0};
    while (to.pos == 0) {
      if (from_.pos == from_.size && !refill()) {
        if (unfinished_) throw DataError(cat(name_, ": the compressed file ends inside a frame; it was cut off"));
        return 0;
      }
      const size_t result = ZSTD_decompressStream(context_.get(), &to, &from_);
      if (ZSTD_isError(result) != 0) {
        throw DataError(cat(name_, ": damaged zstd data before byte ", packed_->position(), ": ",
                            ZSTD_getErrorName(result), " (windows up to ", 1 << (kMaxWindowLog - 20),
                            " MiB are read)"));
      }
      unfinished_ = result != 0;
    }
    produced_ += to.pos;
    if (produced_ > kFreeBytes + kMaxRatio * packed_->position()) {
      throw DataError(
          cat(name_, ": unpacks to more than ", kMaxRatio, " times its size; unpack it first if it is honest"));
    }
    return to.pos;
  }
  [[nodiscard]] uint64_t position() const override { return packed_->position(); }

 private:
  bool refill() {
    const size_t count = packed_->read(buffer_.data(), buffer_.size());
    from_ = {buffer_.data(), count, 0};
    return count > 0;
  }

  struct Free {
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  };
  std::unique_ptr<ByteInput> packed_;
  std::string name_;
  std::unique_ptr<ZSTD_DCtx, Free> context_;
  std::string buffer_;
  ZSTD_inBuffer from_{nullptr, 0, 0};
  bool unfinished_ = false;
  uint64_t produced_ = 0;
};

}  // namespace

std::unique_ptr<ByteInput> descriptor_input(int descriptor, bool owned, std::string name) {
  return std::make_unique<DescriptorInput>(descriptor, owned, std::move(name));
}

std::unique_ptr<ByteInput> unpacked_input(std::unique_ptr<ByteInput> input, const std::string& name) {
  std::string head(kZstdMagic.size(), '\0');
  size_t size = 0;
  while (size < head.size()) {
    const size_t count = input->read(head.data() + size, head.size() - size);
    if (count == 0) break;
    size += count;
  }
  head.resize(size);
  const bool packed = head == kZstdMagic;
  auto whole = std::make_unique<PeekedInput>(std::move(head), std::move(input));
  if (packed) return std::make_unique<ZstdInput>(std::move(whole), name);
  return whole;
}

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
