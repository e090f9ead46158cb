#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace gato::episode {

/// An RGB picture, 8 bits per channel, row-major height x width x 3.
struct Image {
  int32_t height = 0, width = 0;
  std::vector<uint8_t> pixels;  ///< height * width * 3 bytes.
  bool operator==(const Image&) const = default;
};

/// Limits for files that nobody vouches for (reference: ecosystem.md C9).
struct ImageLimits {
  int64_t max_side = 16384;
  int64_t max_pixels = int64_t{64} << 20;
};

[[nodiscard]] std::string encode_png(const Image& image);
[[nodiscard]] std::string encode_jpeg(const Image& image, int quality = 95);

/// PNG or JPEG by its signature, converted to RGB (grey is repeated, alpha dropped). Throws DataError naming `origin`
/// for anything malformed, truncated or over the limits; sizes are checked before memory is taken.
[[nodiscard]] Image decode_image(std::span<const std::byte> bytes, const std::string& origin, ImageLimits limits = {});

/// What the first bytes of an encoded image say.
struct ImageHeader {
  enum class Format { kPng, kJpeg } format = Format::kPng;
  int32_t height = 0, width = 0;
};

/// Reads the header alone, with the same checks of signature and size as decode_image; the pixels may still be damaged.
[[nodiscard]] ImageHeader read_image_header(std::span<const std::byte> bytes, const std::string& origin,
                                            ImageLimits limits = {});

/// `image` in another size, proportions not kept: the mean over the covered area where a side shrinks, linear
/// interpolation where it grows. Deterministic on every machine (whole-number arithmetic).
[[nodiscard]] Image resize_image(const Image& image, int32_t height, int32_t width);

}  // namespace gato::episode
