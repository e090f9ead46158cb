#include "episode/import/tfrecord_bytes.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::episode {
namespace {

constexpr size_t kBufferBytes = size_t{256} << 10;
/// Output of one call into zlib, so that the ratio is looked at often.
constexpr size_t kInflateStep = size_t{1} << 20;

class FileBytes : public ByteSource {
 public:
  explicit FileBytes(const Path& path) : file_(path) {}

  size_t read(std::span<std::byte> out) override {
    size_t done = take_buffered(out);
    while (done < out.size() && read_ < file_.size()) {
      const std::span<std::byte> rest = out.subspan(done);
      if (rest.size() >= kBufferBytes) {  // Large parts go where they belong at once.
        const size_t count = static_cast<size_t>(std::min<uint64_t>(rest.size(), file_.size() - read_));
        file_.read_at(read_, rest.first(count));
        read_ += count;
        done += count;
      } else {
        fill_buffer();
        done += take_buffered(rest);
      }
    }
    return done;
  }
  uint64_t consumed() const override { return read_ - (buffer_.size() - position_); }
  std::optional<uint64_t> remaining() const override { return file_.size() - consumed(); }

 private:
  size_t take_buffered(std::span<std::byte> out) {
    const size_t count = std::min(out.size(), buffer_.size() - position_);
    if (count > 0) std::memcpy(out.data(), buffer_.data() + position_, count);
    position_ += count;
    return count;
  }
  void fill_buffer() {
    buffer_.resize(static_cast<size_t>(std::min<uint64_t>(kBufferBytes, file_.size() - read_)));
    file_.read_at(read_, buffer_);
    read_ += buffer_.size();
    position_ = 0;
  }

  InputFile file_;
  uint64_t read_ = 0;  ///< Bytes of the file behind which the next read begins.
  std::vector<std::byte> buffer_;
  size_t position_ = 0;
};

class MemoryBytes : public ByteSource {
 public:
  explicit MemoryBytes(std::string_view bytes) : bytes_(bytes) {}
  size_t read(std::span<std::byte> out) override {
    const size_t count = std::min(out.size(), bytes_.size() - position_);
    if (count > 0) std::memcpy(out.data(), bytes_.data() + position_, count);
    position_ += count;
    return count;
  }
  uint64_t consumed() const override { return position_; }
  std::optional<uint64_t> remaining() const override { return bytes_.size() - position_; }

 private:
  std::string_view bytes_;
  size_t position_ = 0;
};

/// A z_stream that is ended with its owner.
class Inflater {
 public:
  explicit Inflater(DeflateFormat format) {
    // 15: any window; + 16: a gzip header instead of zlib's.
    if (inflateInit2(&stream, format == DeflateFormat::kGzip ? 15 + 16 : 15) != Z_OK) {
      throw DataError("zlib cannot be started: out of memory or a wrong version of its library");
    }
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;
  ~Inflater() { inflateEnd(&stream); }

  z_stream stream{};
};

class InflatedBytes : public ByteSource {
 public:
  InflatedBytes(std::unique_ptr<ByteSource> input, DeflateFormat format, std::string name, InflateLimits limits)
      : input_(std::move(input)),
        format_(format),
        name_(std::move(name)),
        limits_(limits),
        inflater_(format),
        buffer_(kBufferBytes) {}

  size_t read(std::span<std::byte> out) override {
    size_t done = 0;
    while (done < out.size() && !ended_) done += inflate_some(out.subspan(done));
    return done;
  }
  uint64_t consumed() const override { return input_->consumed() - inflater_.stream.avail_in; }
  std::optional<uint64_t> remaining() const override { return std::nullopt; }

 private:
  [[noreturn]] void fail(std::string_view problem) const {
    throw DataError(cat(name_, ": at byte ", consumed(), " of the compressed file: ", problem));
  }

  /// Whether there is input to work on.
  bool refill() {
    if (inflater_.stream.avail_in > 0) return true;
    const size_t count = input_->read(buffer_);
    inflater_.stream.next_in = reinterpret_cast<Bytef*>(buffer_.data());
    inflater_.stream.avail_in = static_cast<uInt>(count);
    return count > 0;
  }

  size_t inflate_some(std::span<std::byte> out) {
    if (!refill()) fail("the compressed data ends too early; the file is truncated, fetch it again");
    z_stream& stream = inflater_.stream;
    const size_t asked = std::min(out.size(), kInflateStep);
    stream.next_out = reinterpret_cast<Bytef*>(out.data());
    stream.avail_out = static_cast<uInt>(asked);
    const int code = inflate(&stream, Z_NO_FLUSH);
    const size_t count = asked - stream.avail_out;
    if (code == Z_STREAM_END) {
      end_member();
    } else if (code != Z_OK && code != Z_BUF_ERROR) {
      fail(cat("the compressed data is damaged (", stream.msg != nullptr ? stream.msg : "no details",
               "); fetch the file again"));
    }
    check_limits(count);
    return count;
  }

  void end_member() {
    if (!refill()) {
      ended_ = true;
      return;
    }
    if (format_ != DeflateFormat::kGzip || *inflater_.stream.next_in != 0x1f) {
      fail("there are bytes behind the end of the compressed data; the file is damaged");
    }
    inflateReset(&inflater_.stream);
  }

  void check_limits(size_t count) {
    output_ += count;
    if (output_ > limits_.max_output) fail(cat("it expands to more than ", limits_.max_output, " bytes"));
    const uint64_t input = consumed();
    if (output_ > limits_.ratio_slack && output_ / limits_.max_ratio > input) {
      fail(cat("it expands to more than ", limits_.max_ratio,
               " times its size, as no real data does; if you trust the file, uncompress it first"));
    }
  }

  std::unique_ptr<ByteSource> input_;
  DeflateFormat format_;
  std::string name_;
  InflateLimits limits_;
  Inflater inflater_;
  std::vector<std::byte> buffer_;
  uint64_t output_ = 0;
  bool ended_ = false;
};

}  // namespace

std::unique_ptr<ByteSource> file_bytes(const Path& path) { return std::make_unique<FileBytes>(path); }

std::unique_ptr<ByteSource> memory_bytes(std::string_view bytes) { return std::make_unique<MemoryBytes>(bytes); }

std::unique_ptr<ByteSource> inflated_bytes(std::unique_ptr<ByteSource> input, DeflateFormat format, std::string name,
                                           InflateLimits limits) {
  return std::make_unique<InflatedBytes>(std::move(input), format, std::move(name), limits);
}

void inflate_exactly(std::string_view bytes, std::span<std::byte> out, const std::string& origin) {
  constexpr size_t kMost = std::numeric_limits<uInt>::max();
  if (bytes.size() > kMost || out.size() > kMost) throw DataError(cat(origin, ": zlib data of more than 4 GiB"));
  Inflater inflater(DeflateFormat::kZlib);
  z_stream& stream = inflater.stream;
  stream.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  Bytef nothing = 0;  // zlib wants a place to write even where nothing is to come.
  stream.next_out = out.empty() ? &nothing : reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int code = inflate(&stream, Z_FINISH);
  if (code != Z_STREAM_END || stream.avail_out != 0 || stream.avail_in != 0) {
    throw DataError(cat(origin, ": the zlib data is damaged or does not hold exactly ", out.size(), " bytes"));
  }
}

}  // namespace gato::episode
