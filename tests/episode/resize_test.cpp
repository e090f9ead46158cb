#include <gtest/gtest.h>

#include <cmath>

#include "gato/core/error.h"
#include "gato/episode/image.h"

namespace gato::episode {
namespace {

Image make(int32_t height, int32_t width, const std::vector<uint8_t>& grey) {
  Image image{height, width, {}};
  for (const uint8_t value : grey) image.pixels.insert(image.pixels.end(), 3, value);
  return image;
}

/// The same by numeric integration in double: every new pixel is the mean of the old picture over its area.
double mean_over(const Image& image, double top, double bottom, double left, double right, size_t channel) {
  double sum = 0;
  for (int32_t y = 0; y < image.height; ++y) {
    const double rows = std::min<double>(bottom, y + 1) - std::max<double>(top, y);
    for (int32_t x = 0; x < image.width && rows > 0; ++x) {
      const double columns = std::min<double>(right, x + 1) - std::max<double>(left, x);
      if (columns <= 0) continue;
      const auto pixel = static_cast<size_t>(y * image.width + x);
      sum += rows * columns * image.pixels[pixel * 3 + channel];
    }
  }
  return sum / ((bottom - top) * (right - left));
}

TEST(ResizeTest, ShrinksByTheMeanOverTheArea) {
  EXPECT_EQ(resize_image(make(2, 2, {0, 10, 20, 30}), 1, 1), make(1, 1, {15}));
  EXPECT_EQ(resize_image(make(1, 3, {0, 90, 30}), 1, 2), make(1, 2, {30, 50}));
  Image image{13, 17, {}};
  uint64_t state = 1;
  for (int i = 0; i < 13 * 17 * 3; ++i) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    image.pixels.push_back(static_cast<uint8_t>(state >> 56));
  }
  const int32_t height = 5, width = 7;
  const Image small = resize_image(image, height, width);
  for (int32_t y = 0; y < height; ++y) {
    for (int32_t x = 0; x < width; ++x) {
      for (size_t channel = 0; channel < 3; ++channel) {
        const double expected = mean_over(image, y * 13.0 / height, (y + 1) * 13.0 / height, x * 17.0 / width,
                                          (x + 1) * 17.0 / width, channel);
        EXPECT_NEAR(small.pixels[static_cast<size_t>(y * width + x) * 3 + channel], expected, 0.500001);
      }
    }
  }
}

TEST(ResizeTest, GrowsLinearlyBetweenCentres) {
  EXPECT_EQ(resize_image(make(1, 2, {0, 100}), 1, 4), make(1, 4, {0, 25, 75, 100}));
  EXPECT_EQ(resize_image(make(1, 1, {77}), 3, 2), make(3, 2, {77, 77, 77, 77, 77, 77}));
}

TEST(ResizeTest, KeepsWhatIsEvenAndWhatFits) {
  const Image even = make(3, 5, std::vector<uint8_t>(15, 123));
  for (const auto& [height, width] : {std::pair(1, 1), std::pair(64, 2), std::pair(2, 64), std::pair(7, 11)}) {
    const Image resized = resize_image(even, height, width);
    EXPECT_EQ(resized, make(height, width, std::vector<uint8_t>(static_cast<size_t>(height * width), 123)));
  }
  const Image image = make(1, 2, {5, 6});
  EXPECT_EQ(resize_image(image, 1, 2), image);
  EXPECT_THROW(static_cast<void>(resize_image(image, 0, 2)), ContractError);
  EXPECT_THROW(static_cast<void>(resize_image(Image{1, 1, {}}, 2, 2)), ContractError);
}

TEST(ImageHeaderTest, SaysFormatAndSizeWithoutThePixels) {
  const Image image = make(3, 5, std::vector<uint8_t>(15, 9));
  const auto header_of = [](const std::string& bytes) {
    return read_image_header(std::as_bytes(std::span(bytes)), "test");
  };
  const std::string png = encode_png(image), jpeg = encode_jpeg(image);
  EXPECT_EQ(header_of(png).format, ImageHeader::Format::kPng);
  EXPECT_EQ(header_of(png.substr(0, png.size() - 20)).width, 5);
  EXPECT_EQ(header_of(jpeg).format, ImageHeader::Format::kJpeg);
  EXPECT_EQ(header_of(jpeg).height, 3);
  EXPECT_THROW(static_cast<void>(header_of("GIF89a")), DataError);
  EXPECT_THROW(static_cast<void>(header_of(png.substr(0, 20))), DataError);
}

}  // namespace
}  // namespace gato::episode
