#include "episode/import/byte_source.h"

#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::episode {
namespace {

constexpr size_t kPieceBytes = size_t{256} << 10;

/// What a source reads from: a file, or memory.
class RawBytes {
 public:
  explicit RawBytes(const Path& path) : origin_(path.string()), file_(std::make_unique<InputFile>(path)) {
    size_ = file_->size();
  }
  RawBytes(std::span<const std::byte> bytes, std::string origin)
      : origin_(std::move(origin)), memory_(bytes), size_(bytes.size()) {}

  size_t read(std::span<std::byte> out) {
    const size_t count = static_cast<size_t>(std::min<uint64_t>(out.size(), size_ - position_));
    if (file_) {
      file_->read_at(position_, out.first(count));
    } else if (count > 0) {
      std::memcpy(out.data(), memory_.data() + position_, count);
    }
    position_ += count;
    return count;
  }
  void rewind() { position_ = 0; }
  [[nodiscard]] const std::string& origin() const { return origin_; }
  [[nodiscard]] uint64_t position() const { return position_; }
  [[nodiscard]] uint64_t size() const { return size_; }

 private:
  std::string origin_;
  std::unique_ptr<InputFile> file_;
  std::span<const std::byte> memory_;
  uint64_t size_ = 0, position_ = 0;
};

class PlainSource final : public ByteSource {
 public:
  explicit PlainSource(RawBytes bytes) : bytes_(std::move(bytes)) {}
  size_t read(std::span<char> out) override { return bytes_.read(std::as_writable_bytes(out)); }
  [[nodiscard]] uint64_t position() const override { return bytes_.position(); }
  [[nodiscard]] uint64_t remaining() const override { return bytes_.size() - bytes_.position(); }

 private:
  RawBytes bytes_;
};

/// What decompressors share: a piece of input, and the limits.
class CompressedSource : public ByteSource {
 public:
  CompressedSource(RawBytes bytes, DecompressionLimits limits, std::string_view format)
      : bytes_(std::move(bytes)),
        limits_(limits),
        format_(format),
        piece_(static_cast<size_t>(std::min<uint64_t>(kPieceBytes, bytes_.size()))) {}

  size_t read(std::span<char> out) final {
    size_t filled = 0;
    while (filled < out.size()) {
      const size_t before = filled;
      const bool more = step(out, filled);
      produced_ += filled - before;
      check_ratio();
      if (!more) break;
    }
    return filled;
  }
  [[nodiscard]] uint64_t position() const final { return consumed_; }
  [[nodiscard]] uint64_t remaining() const final { return std::numeric_limits<uint64_t>::max(); }

 protected:
  /// Adds some bytes to out[filled...] and takes some input; false at the end.
  virtual bool step(std::span<char> out, size_t& filled) = 0;

  /// Input not yet taken; read anew when there is none. Empty at the end of the file.
  std::span<const std::byte> input() {
    if (first_ == last_) {
      first_ = 0;
      last_ = bytes_.read(piece_);
    }
    return std::span<const std::byte>(piece_).subspan(first_, last_ - first_);
  }
  void take(size_t count) {
    first_ += count;
    consumed_ += count;
  }
  [[noreturn]] void fail(std::string_view problem) const {
    throw DataError(cat(bytes_.origin(), ", byte ", consumed_, ": this ", format_, " data cannot be read: ", problem));
  }

 private:
  void check_ratio() const {
    if (produced_ > limits_.most) fail(cat("it expands to more than ", limits_.most, " bytes"));
    if (produced_ <= limits_.slack || produced_ - limits_.slack <= consumed_ * limits_.ratio) return;
    fail(cat("it expands more than ", limits_.ratio,
             " times, as decompression bombs do; if it is meant to, import the decompressed file"));
  }

  RawBytes bytes_;
  DecompressionLimits limits_;
  std::string_view format_;
  std::vector<std::byte> piece_;
  size_t first_ = 0, last_ = 0;
  uint64_t consumed_ = 0, produced_ = 0;
};

/// gzip, or zlib's own format.
class DeflateSource final : public CompressedSource {
 public:
  DeflateSource(RawBytes bytes, DecompressionLimits limits, bool gzip)
      : CompressedSource(std::move(bytes), limits, gzip ? "gzip" : "zlib") {
    // zlib's sign for gzip: 16 more.
    if (inflateInit2(&stream_, MAX_WBITS + (gzip ? 16 : 0)) != Z_OK) {
      throw Error("zlib cannot be started: out of memory");
    }
  }
  DeflateSource(const DeflateSource&) = delete;
  DeflateSource& operator=(const DeflateSource&) = delete;
  ~DeflateSource() override { inflateEnd(&stream_); }

 private:
  bool step(std::span<char> out, size_t& filled) override {
    const auto in = input();
    if (in.empty()) {
      if (!between_members_) fail("it ends in the middle: the file was cut short");
      return false;
    }
    between_members_ = false;
    const size_t room = std::min<size_t>(out.size() - filled, size_t{1} << 30);
    stream_.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(in.data()));
    stream_.avail_in = static_cast<uInt>(in.size());
    stream_.next_out = reinterpret_cast<Bytef*>(out.data() + filled);
    stream_.avail_out = static_cast<uInt>(room);
    const int result = inflate(&stream_, Z_NO_FLUSH);
    take(in.size() - stream_.avail_in);
    filled += room - stream_.avail_out;
    if (result == Z_STREAM_END) {  // A file may hold several members back to back.
      between_members_ = true;
      inflateReset(&stream_);
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
      fail(stream_.msg != nullptr ? stream_.msg : "it is damaged");
    }
    return true;
  }

  z_stream stream_{};
  bool between_members_ = false;
};

class ZstdSource final : public CompressedSource {
 public:
  ZstdSource(RawBytes bytes, DecompressionLimits limits)
      : CompressedSource(std::move(bytes), limits, "zstd"), context_(ZSTD_createDCtx()) {
    if (!context_) throw Error("zstd cannot be started: out of memory");
    ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, limits.zstd_window_log);
  }

 private:
  struct Deleter {
    void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
  };

  bool step(std::span<char> out, size_t& filled) override {
    const auto in = input();
    // At the end of the file there may still be bytes inside the decompressor.
    if (in.empty() && between_frames_) return false;
    ZSTD_inBuffer from{in.data(), in.size(), 0};
    ZSTD_outBuffer to{out.data() + filled, out.size() - filled, 0};
    const size_t result = ZSTD_decompressStream(context_.get(), &to, &from);
    if (ZSTD_isError(result) != 0) fail(ZSTD_getErrorName(result));
    if (in.empty() && to.pos == 0) fail("it ends in the middle: the file was cut short");
    take(from.pos);
    filled += to.pos;
    between_frames_ = result == 0;
    return true;
  }

  std::unique_ptr<ZSTD_DCtx, Deleter> context_;
  bool between_frames_ = false;
};

bool is_gzip(std::span<const std::byte> magic) {
  return magic.size() >= 2 && magic[0] == std::byte{0x1f} && magic[1] == std::byte{0x8b};
}

/// A frame, or a skippable frame as some tools put in front.
bool is_zstd(std::span<const std::byte> magic) {
  if (magic.size() < 4) return false;
  const auto byte = [&](size_t i) { return std::to_integer<unsigned>(magic[i]); };
  if (byte(0) == 0x28 && byte(1) == 0xb5 && byte(2) == 0x2f && byte(3) == 0xfd) return true;
  return (byte(0) & 0xf0u) == 0x50 && byte(1) == 0x2a && byte(2) == 0x4d && byte(3) == 0x18;
}

Compression compression_by_magic(RawBytes& bytes) {
  std::array<std::byte, 4> magic{};
  const std::span<const std::byte> head(magic.data(), bytes.read(magic));
  bytes.rewind();
  if (is_gzip(head)) return Compression::kGzip;
  return is_zstd(head) ? Compression::kZstd : Compression::kNone;
}

std::unique_ptr<ByteSource> open_as(RawBytes bytes, DecompressionLimits limits, Compression compression) {
  if (compression == Compression::kByMagic) compression = compression_by_magic(bytes);
  switch (compression) {
    case Compression::kGzip:
    case Compression::kZlib:
      return std::make_unique<DeflateSource>(std::move(bytes), limits, compression == Compression::kGzip);
    case Compression::kZstd:
      return std::make_unique<ZstdSource>(std::move(bytes), limits);
    case Compression::kByMagic:
    case Compression::kNone:
      break;
  }
  return std::make_unique<PlainSource>(std::move(bytes));
}

}  // namespace

std::unique_ptr<ByteSource> open_byte_source(const Path& path, DecompressionLimits limits, Compression compression) {
  return open_as(RawBytes(path), limits, compression);
}

std::unique_ptr<ByteSource> open_byte_source(std::span<const std::byte> bytes, const std::string& origin,
                                             DecompressionLimits limits, Compression compression) {
  return open_as(RawBytes(bytes, origin), limits, compression);
}

}  // namespace gato::episode
