#include "env/canvas.h"

#include <gtest/gtest.h>

namespace gato::env {
namespace {

std::array<int, 3> pixel_of(const episode::Image& image, int x, int y) {
  const uint8_t* pixel = image.pixels.data() + 3 * (y * image.width + x);
  return {pixel[0], pixel[1], pixel[2]};
}

TEST(CanvasTest, PaintsRectanglesAndLeavesOutWhatIsOutside) {
  Canvas canvas(4, 3, {1, 2, 3});
  canvas.rectangle(2, 1, 100, 100, {9, 8, 7});
  canvas.rectangle(-5, -5, 6, 6, {4, 4, 4});
  const episode::Image image = std::move(canvas).take();
  ASSERT_EQ(image.pixels.size(), 36u);
  EXPECT_EQ(pixel_of(image, 0, 0), (std::array<int, 3>{4, 4, 4}));
  EXPECT_EQ(pixel_of(image, 1, 1), (std::array<int, 3>{1, 2, 3}));
  EXPECT_EQ(pixel_of(image, 3, 2), (std::array<int, 3>{9, 8, 7}));
}

TEST(CanvasTest, SmoothsTheEdgesOfDiscs) {
  Canvas canvas(20, 20, {0, 0, 0});
  canvas.disc(10, 10, 6, {200, 200, 200});
  canvas.disc(0, 0, 3, {200, 200, 200});  // three quarters of it outside
  const episode::Image image = std::move(canvas).take();
  EXPECT_EQ(pixel_of(image, 10, 10)[0], 200);
  EXPECT_EQ(pixel_of(image, 18, 10)[0], 0);
  int between = 0;
  double area = 0;
  for (int y = 3; y < 20; ++y) {
    for (int x = 3; x < 20; ++x) {
      const int value = pixel_of(image, x, y)[0];
      between += value > 0 && value < 200 ? 1 : 0;
      area += value / 200.0;
    }
  }
  EXPECT_GT(between, 10);
  EXPECT_NEAR(area, 3.14159 * 36, 1.5);
}

TEST(CanvasTest, DrawsEveryLetterItKnowsDifferently) {
  const std::string letters = "abcdefghijklmnopqrstuvwxyz0123456789.,:?!-'/";
  std::vector<std::vector<uint8_t>> drawings;
  for (const char letter : letters) {
    Canvas canvas(6, 9, {0, 0, 0});
    canvas.text(0, 0, std::string(1, letter), {255, 255, 255});
    drawings.push_back(std::move(canvas).take().pixels);
    for (size_t i = 0; i + 1 < drawings.size(); ++i) EXPECT_NE(drawings[i], drawings.back()) << letter;
  }
  EXPECT_EQ(Canvas::text_width("abc", 2), 34);
  EXPECT_EQ(Canvas::text_width("", 2), 0);
  Canvas other(6, 9, {0, 0, 0});
  other.text(0, 0, "\xc3", {255, 255, 255});  // no drawing: an empty box
  EXPECT_NE(std::move(other).take().pixels, std::vector<uint8_t>(6 * 9 * 3, 0));
}

}  // namespace
}  // namespace gato::env
