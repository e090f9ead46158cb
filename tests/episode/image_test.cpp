#include "gato/episode/image.h"

#include <gtest/gtest.h>
#include <png.h>

#include <cstdlib>
#include <cstring>

#include "episode/sample_data.h"
#include "gato/core/error.h"

namespace gato::episode {
namespace {

std::span<const std::byte> bytes_of(const std::string& text) { return std::as_bytes(std::span<const char>(text)); }

Image decode(const std::string& bytes, ImageLimits limits = {}) {
  return decode_image(bytes_of(bytes), "test.png", limits);
}

/// Soft shades, which JPEG keeps well.
Image soft_image(int32_t height, int32_t width) {
  Image image{height, width, {}};
  for (int32_t y = 0; y < height; ++y) {
    for (int32_t x = 0; x < width; ++x) {
      image.pixels.push_back(static_cast<uint8_t>(255 * y / std::max(1, height - 1)));
      image.pixels.push_back(static_cast<uint8_t>(255 * x / std::max(1, width - 1)));
      image.pixels.push_back(128);
    }
  }
  return image;
}

/// Any kind of PNG by libpng itself: `channels` interleaved samples of `depth` bits per pixel, big-endian when 16.
std::string write_png(int width, int height, int depth, int color_type, const std::vector<uint8_t>& rows, int interlace,
                      const std::vector<png_color>& palette = {}) {
  std::string output;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  png_set_write_fn(
      png, &output,
      [](png_structp p, png_bytep data, size_t size) {
        static_cast<std::string*>(png_get_io_ptr(p))->append(reinterpret_cast<const char*>(data), size);
      },
      [](png_structp) {});
  png_set_IHDR(png, info, static_cast<png_uint_32>(width), static_cast<png_uint_32>(height), depth, color_type,
               interlace, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (!palette.empty()) png_set_PLTE(png, info, palette.data(), static_cast<int>(palette.size()));
  png_write_info(png, info);
  const size_t row_bytes = rows.size() / static_cast<size_t>(height);
  std::vector<png_bytep> pointers;
  for (int y = 0; y < height; ++y) {
    pointers.push_back(const_cast<png_bytep>(rows.data()) + static_cast<size_t>(y) * row_bytes);
  }
  png_write_image(png, pointers.data());
  png_write_end(png, nullptr);
  png_destroy_write_struct(&png, &info);
  return output;
}

uint32_t crc_of_chunk(const std::string& type_and_data) {
  uint32_t crc = 0xffffffffu;
  for (const char c : type_and_data) {
    crc ^= static_cast<unsigned char>(c);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (0xedb88320u & (0u - (crc & 1u)));
  }
  return ~crc;
}

std::string big_endian(uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>((value >> shift) & 0xff);
  return bytes;
}

std::string chunk(const std::string& type, const std::string& data) {
  return big_endian(static_cast<uint32_t>(data.size())) + type + data + big_endian(crc_of_chunk(type + data));
}

/// `png` with `addition` behind its IHDR chunk.
std::string with_chunk(const std::string& png, const std::string& addition) {
  constexpr size_t kEndOfHeader = 8 + 25;
  return png.substr(0, kEndOfHeader) + addition + png.substr(kEndOfHeader);
}

TEST(ImageTest, PngIsLossless) {
  Rng rng(1);
  for (const auto& [height, width] :
       std::vector<std::pair<int32_t, int32_t>>{{1, 1}, {1, 7}, {9, 1}, {32, 32}, {33, 17}}) {
    const Image image = sample::random_image(rng, height, width);
    EXPECT_EQ(decode(encode_png(image)), image) << height << " x " << width;
  }
  EXPECT_EQ(decode(encode_png(soft_image(40, 60))), soft_image(40, 60));
}

TEST(ImageTest, PngIsTheSameEachTime) { EXPECT_EQ(encode_png(soft_image(40, 60)), encode_png(soft_image(40, 60))); }

TEST(ImageTest, JpegIsNear) {
  const Image image = soft_image(48, 80);
  const Image back = decode(encode_jpeg(image));
  ASSERT_EQ(back.height, image.height);
  ASSERT_EQ(back.width, image.width);
  for (size_t i = 0; i < image.pixels.size(); ++i) ASSERT_NEAR(back.pixels[i], image.pixels[i], 6) << i;
}

TEST(ImageTest, JpegQualityTradesSize) {
  Rng rng(2);
  const Image image = sample::random_image(rng, 64, 64);
  EXPECT_LT(encode_jpeg(image, 20).size(), encode_jpeg(image, 95).size() / 2);
  EXPECT_THROW((void)encode_jpeg(image, 0), ContractError);
  EXPECT_THROW((void)encode_jpeg(image, 101), ContractError);
}

TEST(ImageTest, EncodersRefuseWrongSizes) {
  EXPECT_THROW((void)encode_png(Image{}), ContractError);
  EXPECT_THROW((void)encode_png(Image{2, 2, std::vector<uint8_t>(11)}), ContractError);
  EXPECT_THROW((void)encode_jpeg(Image{2, -2, std::vector<uint8_t>(12)}), ContractError);
}

TEST(ImageTest, GreyIsRepeated) {
  const Image image = decode(write_png(2, 2, 8, PNG_COLOR_TYPE_GRAY, {0, 100, 200, 255}, PNG_INTERLACE_NONE));
  EXPECT_EQ(image.pixels, (std::vector<uint8_t>{0, 0, 0, 100, 100, 100, 200, 200, 200, 255, 255, 255}));
}

TEST(ImageTest, SingleBitsBecomeBlackAndWhite) {
  const Image image = decode(write_png(4, 1, 1, PNG_COLOR_TYPE_GRAY, {0b10100000}, PNG_INTERLACE_NONE));
  EXPECT_EQ(image.pixels, (std::vector<uint8_t>{255, 255, 255, 0, 0, 0, 255, 255, 255, 0, 0, 0}));
}

TEST(ImageTest, AlphaIsDropped) {
  const Image image = decode(write_png(2, 1, 8, PNG_COLOR_TYPE_RGBA, {1, 2, 3, 0, 4, 5, 6, 255}, PNG_INTERLACE_NONE));
  EXPECT_EQ(image.pixels, (std::vector<uint8_t>{1, 2, 3, 4, 5, 6}));
  const Image grey = decode(write_png(2, 1, 8, PNG_COLOR_TYPE_GRAY_ALPHA, {9, 0, 8, 255}, PNG_INTERLACE_NONE));
  EXPECT_EQ(grey.pixels, (std::vector<uint8_t>{9, 9, 9, 8, 8, 8}));
}

TEST(ImageTest, SixteenBitsAreScaled) {
  const Image image =
      decode(write_png(1, 1, 16, PNG_COLOR_TYPE_RGB, {0xff, 0xff, 0x80, 0x00, 0x00, 0x00}, PNG_INTERLACE_NONE));
  EXPECT_EQ(image.pixels, (std::vector<uint8_t>{255, 128, 0}));
}

TEST(ImageTest, PalettesAreResolved) {
  const Image image =
      decode(write_png(3, 1, 8, PNG_COLOR_TYPE_PALETTE, {1, 0, 1}, PNG_INTERLACE_NONE, {{1, 2, 3}, {7, 8, 9}}));
  EXPECT_EQ(image.pixels, (std::vector<uint8_t>{7, 8, 9, 1, 2, 3, 7, 8, 9}));
}

TEST(ImageTest, InterlacedPicturesAreRead) {
  Rng rng(3);
  const Image image = sample::random_image(rng, 13, 11);
  EXPECT_EQ(decode(write_png(11, 13, 8, PNG_COLOR_TYPE_RGB, image.pixels, PNG_INTERLACE_ADAM7)), image);
}

TEST(ImageTest, AncillaryChunksArePassedOver) {
  const Image image = soft_image(4, 4);
  const std::string png = encode_png(image);
  EXPECT_EQ(decode(with_chunk(png, chunk("tEXt", "Comment" + std::string(1, '\0') + std::string(100000, 'x')))), image);
  // A compressed text whose content is not even deflate: it must not be unpacked.
  EXPECT_EQ(decode(with_chunk(png, chunk("zTXt", "Comment" + std::string(2, '\0') + "broken"))), image);
  EXPECT_EQ(decode(with_chunk(png, chunk("iCCP", "profile" + std::string(2, '\0') + "broken"))), image);
  EXPECT_EQ(decode(with_chunk(png, chunk("gaTo", "unknown"))), image);
  EXPECT_THROW((void)decode(with_chunk(png, chunk("GATO", "unknown and critical"))), DataError);
}

TEST(ImageTest, OtherFormatsAreRefused) {
  for (const std::string& bytes :
       {std::string(), std::string("GIF89a"), std::string("\x89PN"), std::string(100, '\0')}) {
    const std::string message = sample::message_of<DataError>([&] { (void)decode(bytes); });
    EXPECT_NE(message.find("test.png"), std::string::npos) << message;
    EXPECT_NE(message.find("neither a PNG nor a JPEG"), std::string::npos) << message;
  }
}

class ImageDamageTest : public testing::TestWithParam<const char*> {
 protected:
  static std::string encoded() {
    Rng rng(5);
    const Image image = sample::random_image(rng, 9, 12);
    return std::string(GetParam()) == "png" ? encode_png(image) : encode_jpeg(image);
  }
};

TEST_P(ImageDamageTest, EveryTruncationIsAnError) {
  const std::string whole = encoded();
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_THROW((void)decode(whole.substr(0, length)), DataError) << "cut to " << length << " of " << whole.size();
  }
  EXPECT_NO_THROW((void)decode(whole));
}

TEST_P(ImageDamageTest, FlippedBytesNeverCrash) {
  const std::string whole = encoded();
  int refused = 0;
  for (size_t i = 0; i < whole.size(); ++i) {
    for (const int bits : {0x01, 0x80, 0xff}) {
      std::string damaged = whole;
      damaged[i] = static_cast<char>(damaged[i] ^ bits);
      try {
        const Image image = decode(damaged);
        EXPECT_EQ(image.pixels.size(), static_cast<size_t>(image.height) * static_cast<size_t>(image.width) * 3);
      } catch (const DataError& error) {
        EXPECT_NE(std::string(error.what()).find("test.png"), std::string::npos);
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 0);
  // Every byte of a PNG is covered by a signature, a CRC or a checksum of its data.
  if (std::string(GetParam()) == "png") {
    EXPECT_EQ(refused, 3 * static_cast<int>(whole.size()));
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, ImageDamageTest, testing::Values("png", "jpeg"),
                         [](const testing::TestParamInfo<const char*>& format) { return std::string(format.param); });

TEST(ImageTest, LimitsAreChecked) {
  const std::string png = encode_png(soft_image(20, 30)), jpeg = encode_jpeg(soft_image(20, 30));
  for (const std::string& bytes : {png, jpeg}) {
    EXPECT_NO_THROW((void)decode(bytes, {.max_side = 30, .max_pixels = 600}));
    EXPECT_THROW((void)decode(bytes, {.max_side = 29, .max_pixels = 600}), DataError);
    EXPECT_THROW((void)decode(bytes, {.max_side = 30, .max_pixels = 599}), DataError);
  }
}

/// A PNG that says it is height x width, with `data` as its IDAT.
std::string claimed_png(uint32_t height, uint32_t width, const std::string& data) {
  return "\x89PNG\r\n\x1a\n" +
         chunk("IHDR", big_endian(width) + big_endian(height) + std::string("\x08\x02\0\0\0", 5)) +
         chunk("IDAT", data) + chunk("IEND", "");
}

TEST(ImageTest, SizesThatTheDataCannotHoldTakeNoMemory) {
  const std::string message = sample::message_of<DataError>([] { (void)decode(claimed_png(8000, 8000, "tiny")); });
  EXPECT_NE(message.find("cannot hold 8000 x 8000"), std::string::npos) << message;
  EXPECT_THROW((void)decode(claimed_png(0, 5, "tiny")), DataError);
  EXPECT_THROW((void)decode(claimed_png(0x7fffffffu, 0x7fffffffu, "tiny")), DataError);
  EXPECT_THROW((void)decode(claimed_png(0xffffffffu, 1, "tiny")), DataError);
}

TEST(ImageTest, JpegSizesThatTheDataCannotHoldTakeNoMemory) {
  std::string jpeg = encode_jpeg(soft_image(8, 8));
  const size_t frame = jpeg.find("\xff\xc0");  // Length, precision, height, width.
  ASSERT_NE(frame, std::string::npos);
  jpeg.replace(frame + 5, 4, std::string("\x1f\x40\x1f\x40", 4));
  const std::string message = sample::message_of<DataError>([&] { (void)decode(jpeg); });
  EXPECT_NE(message.find("cannot hold 8000 x 8000"), std::string::npos) << message;
}

TEST(ImageTest, FlatPicturesAreWithinTheRatios) {
  // The least data per pixel that our own encoders make.
  const Image flat{2000, 3000, std::vector<uint8_t>(2000 * 3000 * 3, 200)};
  EXPECT_EQ(decode(encode_png(flat)), flat);
  EXPECT_EQ(decode(encode_jpeg(flat, 1)).pixels.size(), flat.pixels.size());
}

}  // namespace
}  // namespace gato::episode
