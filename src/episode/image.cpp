#include "gato/episode/image.h"

#include <png.h>
#include <turbojpeg.h>

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstring>
#include <memory>

#include "gato/core/error.h"
#include "gato/core/text.h"

namespace gato::episode {
namespace {

constexpr std::array<unsigned char, 8> kPngSignature = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
constexpr std::array<unsigned char, 3> kJpegSignature = {0xff, 0xd8, 0xff};

/// Most pixel bytes one byte of deflate can stand for (258 bytes from two bits); a file that claims more is lying.
constexpr int64_t kMaxDeflateRatio = 1032;
/// Most pixels one byte of Huffman-coded JPEG can stand for: a bit per 8 x 8 block.
constexpr int64_t kMaxJpegPixelsPerByte = 512;
/// A few tiny blocks fit beside headers whose size the ratios above ignore.
constexpr int64_t kRatioSlack = 4096;

template <size_t N>
bool starts_with(std::span<const std::byte> bytes, const std::array<unsigned char, N>& signature) {
  return bytes.size() >= N && std::memcmp(bytes.data(), signature.data(), N) == 0;
}

[[noreturn]] void fail(const std::string& origin, std::string_view format, std::string_view problem) {
  throw DataError(cat(origin, ": this ", format, " image cannot be used: ", problem));
}

void check_size(const std::string& origin, std::string_view format, int64_t height, int64_t width,
                const ImageLimits& limits) {
  if (height < 1 || width < 1 || height > limits.max_side || width > limits.max_side ||
      height * width > limits.max_pixels) {
    fail(origin, format,
         cat("its size ", height, " x ", width, " exceeds the limits (sides 1 to ", limits.max_side, ", ",
             limits.max_pixels, " pixels)"));
  }
}

void check_image(const Image& image) {
  GATO_CHECK(image.height > 0 && image.width > 0 &&
                 image.pixels.size() == static_cast<size_t>(image.height) * static_cast<size_t>(image.width) * 3,
             "image of ", image.height, " x ", image.width, " with ", image.pixels.size(), " bytes");
}

// ---- PNG -----------------------------------------------------------------------------------------------------------
// libpng reports errors by longjmp. So every function that calls it holds trivially destructible locals only between
// setjmp and the last libpng call; buffers belong to the callers.

/// Input, output and the first error of one use of libpng.
struct PngContext {
  std::jmp_buf on_error;
  std::array<char, 160> message{};
  const std::byte* data = nullptr;
  size_t size = 0;
  size_t position = 0;
  std::string* output = nullptr;
};

extern "C" {
static void png_fail(png_structp png, png_const_charp message) {
  auto* context = static_cast<PngContext*>(png_get_error_ptr(png));
  std::strncpy(context->message.data(), message, context->message.size() - 1);
  std::longjmp(context->on_error, 1);
}

static void png_ignore_warning(png_structp, png_const_charp) {}

static void png_read(png_structp png, png_bytep out, size_t count) {
  auto* context = static_cast<PngContext*>(png_get_io_ptr(png));
  if (count > context->size - context->position) png_error(png, "it is truncated");
  std::memcpy(out, context->data + context->position, count);
  context->position += count;
}

static void png_write(png_structp png, png_bytep bytes, size_t count) {
  auto* context = static_cast<PngContext*>(png_get_io_ptr(png));
  bool written = true;
  try {
    context->output->append(reinterpret_cast<const char*>(bytes), count);
  } catch (...) {  // No exception may cross libpng's frames.
    written = false;
  }
  if (!written) png_error(png, "out of memory");
}

static void png_flush_nothing(png_structp) {}
}

/// A libpng reader with our limits, and its header once read_png_header has run.
class PngReader {
 public:
  PngReader(std::span<const std::byte> bytes, const ImageLimits& limits) {
    context_.data = bytes.data();
    context_.size = bytes.size();
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &context_, png_fail, png_ignore_warning);
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
    if (info_ == nullptr) {
      png_destroy_read_struct(&png_, nullptr, nullptr);
      throw DataError("libpng cannot be started: out of memory or a wrong version of its library");
    }
    limits_ = limits;
  }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;
  ~PngReader() { png_destroy_read_struct(&png_, &info_, nullptr); }

  /// Reads everything before the pixels. False: see message().
  bool read_header() {
    if (setjmp(context_.on_error) != 0) return false;
    png_set_read_fn(png_, &context_, png_read);
    png_set_user_limits(png_, static_cast<png_uint_32>(limits_.max_side), static_cast<png_uint_32>(limits_.max_side));
    png_set_chunk_cache_max(png_, 128);
    png_set_chunk_malloc_max(png_, 8 << 20);
    // Texts, profiles, EXIF and every unknown chunk are passed over unread: a negative count means all known ancillary
    // ones.
    png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
    png_read_info(png_, info_);
    return true;
  }

  /// Reads the pixels as RGB into `rows_begin`, `row_bytes` apart. False: see message().
  bool read_pixels(uint8_t* rows_begin, size_t row_bytes) {
    if (setjmp(context_.on_error) != 0) return false;
    png_set_expand(png_);
    png_set_scale_16(png_);
    png_set_gray_to_rgb(png_);
    png_set_strip_alpha(png_);
    const int passes = png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    if (png_get_rowbytes(png_, info_) != row_bytes) png_error(png_, "it cannot be converted to RGB");
    for (int pass = 0; pass < passes; ++pass) {
      for (int64_t row = 0; row < height(); ++row)
        png_read_row(png_, rows_begin + static_cast<size_t>(row) * row_bytes, nullptr);
    }
    png_read_end(png_, nullptr);
    return true;
  }

  [[nodiscard]] int64_t height() const { return png_get_image_height(png_, info_); }
  [[nodiscard]] int64_t width() const { return png_get_image_width(png_, info_); }
  [[nodiscard]] int64_t stored_row_bytes() const { return static_cast<int64_t>(png_get_rowbytes(png_, info_)); }
  [[nodiscard]] const char* message() const { return context_.message.data(); }

 private:
  PngContext context_;
  ImageLimits limits_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

ImageHeader read_png_header(PngReader& reader, std::span<const std::byte> bytes, const std::string& origin,
                            const ImageLimits& limits) {
  if (!reader.read_header()) fail(origin, "PNG", reader.message());
  check_size(origin, "PNG", reader.height(), reader.width(), limits);
  if (reader.height() * reader.stored_row_bytes() >
      static_cast<int64_t>(bytes.size()) * kMaxDeflateRatio + kRatioSlack) {
    fail(origin, "PNG",
         cat("its ", bytes.size(), " bytes cannot hold ", reader.height(), " x ", reader.width(), " pixels"));
  }
  return {ImageHeader::Format::kPng, static_cast<int32_t>(reader.height()), static_cast<int32_t>(reader.width())};
}

Image decode_png(std::span<const std::byte> bytes, const std::string& origin, const ImageLimits& limits) {
  PngReader reader(bytes, limits);
  const ImageHeader header = read_png_header(reader, bytes, origin, limits);
  Image image;
  image.height = header.height;
  image.width = header.width;
  const size_t row_bytes = static_cast<size_t>(image.width) * 3;
  image.pixels.resize(static_cast<size_t>(image.height) * row_bytes);
  if (!reader.read_pixels(image.pixels.data(), row_bytes)) fail(origin, "PNG", reader.message());
  return image;
}

bool write_png(PngContext& context, png_structp png, png_infop info, const Image& image) {
  if (setjmp(context.on_error) != 0) return false;
  png_set_write_fn(png, &context, png_write, png_flush_nothing);
  // Level 1 without filter search: frames of small pictures are written by the ten thousand while experts play.
  png_set_compression_level(png, 1);
  png_set_filter(png, PNG_FILTER_TYPE_BASE, PNG_FILTER_NONE | PNG_FILTER_SUB | PNG_FILTER_UP);
  png_set_IHDR(png, info, static_cast<png_uint_32>(image.width), static_cast<png_uint_32>(image.height), 8,
               PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  png_write_info(png, info);
  const size_t row_bytes = static_cast<size_t>(image.width) * 3;
  for (int32_t row = 0; row < image.height; ++row) {
    png_write_row(png, image.pixels.data() + static_cast<size_t>(row) * row_bytes);
  }
  png_write_end(png, nullptr);
  return true;
}

// ---- JPEG ----------------------------------------------------------------------------------------------------------

struct TurboJpegDeleter {
  void operator()(void* handle) const { tjDestroy(handle); }
};
using TurboJpeg = std::unique_ptr<void, TurboJpegDeleter>;

TurboJpeg start_decoder() {
  TurboJpeg handle(tjInitDecompress());
  if (!handle) throw DataError("libturbojpeg cannot be started: out of memory");
  return handle;
}

ImageHeader read_jpeg_header(const TurboJpeg& handle, std::span<const std::byte> bytes, const std::string& origin,
                             const ImageLimits& limits) {
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  int width = 0, height = 0, subsampling = 0, colorspace = 0;
  if (tjDecompressHeader3(handle.get(), data, static_cast<unsigned long>(bytes.size()), &width, &height, &subsampling,
                          &colorspace) != 0) {
    fail(origin, "JPEG", tjGetErrorStr2(handle.get()));
  }
  check_size(origin, "JPEG", height, width, limits);
  if (int64_t{height} * width > static_cast<int64_t>(bytes.size()) * kMaxJpegPixelsPerByte + kRatioSlack) {
    fail(origin, "JPEG", cat("its ", bytes.size(), " bytes cannot hold ", height, " x ", width, " pixels"));
  }
  return {ImageHeader::Format::kJpeg, height, width};
}

Image decode_jpeg(std::span<const std::byte> bytes, const std::string& origin, const ImageLimits& limits) {
  const TurboJpeg handle = start_decoder();
  const ImageHeader header = read_jpeg_header(handle, bytes, origin, limits);
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  const auto size = static_cast<unsigned long>(bytes.size());
  Image image;
  image.height = header.height;
  image.width = header.width;
  image.pixels.resize(static_cast<size_t>(header.height) * static_cast<size_t>(header.width) * 3);
  // A warning means lost data (truncation, a broken code): training data with holes in it is refused.
  const int flags = TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS | TJFLAG_ACCURATEDCT;
  if (tjDecompress2(handle.get(), data, size, image.pixels.data(), header.width, 0, header.height, TJPF_RGB, flags) !=
      0) {
    fail(origin, "JPEG", tjGetErrorStr2(handle.get()));
  }
  return image;
}

[[noreturn]] void fail_unknown(std::span<const std::byte> bytes, const std::string& origin) {
  throw DataError(cat(origin, ": neither a PNG nor a JPEG image (", bytes.size(), " bytes, unknown signature)"));
}

}  // namespace

std::string encode_png(const Image& image) {
  check_image(image);
  std::string output;
  output.reserve(image.pixels.size() / 4 + 256);
  PngContext context;
  context.output = &output;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &context, png_fail, png_ignore_warning);
  png_infop info = png != nullptr ? png_create_info_struct(png) : nullptr;
  const bool written = info != nullptr && write_png(context, png, info, image);
  png_destroy_write_struct(&png, &info);
  if (!written) throw Error(cat("a picture cannot be written as PNG: ", context.message.data()));
  return output;
}

std::string encode_jpeg(const Image& image, int quality) {
  check_image(image);
  GATO_CHECK(quality >= 1 && quality <= 100, "JPEG quality ", quality, " is outside [1, 100]");
  const TurboJpeg handle(tjInitCompress());
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  const bool written =
      handle != nullptr && tjCompress2(handle.get(), image.pixels.data(), image.width, 0, image.height, TJPF_RGB,
                                       &bytes, &size, TJSAMP_444, quality, TJFLAG_ACCURATEDCT) == 0;
  const std::unique_ptr<unsigned char, decltype(&tjFree)> owner(bytes, &tjFree);
  if (!written) {
    throw Error(cat("a picture cannot be written as JPEG: ", handle ? tjGetErrorStr2(handle.get()) : "out of memory"));
  }
  return std::string(reinterpret_cast<const char*>(bytes), size);
}

Image decode_image(std::span<const std::byte> bytes, const std::string& origin, ImageLimits limits) {
  if (starts_with(bytes, kPngSignature)) return decode_png(bytes, origin, limits);
  if (starts_with(bytes, kJpegSignature)) return decode_jpeg(bytes, origin, limits);
  fail_unknown(bytes, origin);
}

ImageHeader read_image_header(std::span<const std::byte> bytes, const std::string& origin, ImageLimits limits) {
  if (starts_with(bytes, kPngSignature)) {
    PngReader reader(bytes, limits);
    return read_png_header(reader, bytes, origin, limits);
  }
  if (starts_with(bytes, kJpegSignature)) return read_jpeg_header(start_decoder(), bytes, origin, limits);
  fail_unknown(bytes, origin);
}

}  // namespace gato::episode
