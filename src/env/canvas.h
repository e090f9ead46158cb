#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

#include "gato/episode/image.h"

/// Drawing of the pictures that people see: rectangles, smooth shapes and small letters.
namespace gato::env {

struct Color {
  uint8_t red = 0, green = 0, blue = 0;
};

class Canvas {
 public:
  Canvas(int width, int height, Color background);

  [[nodiscard]] int width() const { return image_.width; }
  [[nodiscard]] int height() const { return image_.height; }

  /// Pixels [x, x + width) x [y, y + height); parts outside are left out.
  void rectangle(int x, int y, int width, int height, Color color);

  /// Paints where inside(x, y) holds, at x, y in pixels, edges smoothed; only the box given is looked at.
  template <class Inside>
  void shape(double left, double top, double right, double bottom, Color color, Inside inside) {
    const int y_end = std::min(height(), static_cast<int>(std::ceil(bottom)));
    const int x_end = std::min(width(), static_cast<int>(std::ceil(right)));
    for (int y = std::max(0, static_cast<int>(std::floor(top))); y < y_end; ++y) {
      for (int x = std::max(0, static_cast<int>(std::floor(left))); x < x_end; ++x) {
        int hits = 0;
        for (int k = 0; k < kSamples * kSamples; ++k) {
          const double u = x + (k % kSamples + 0.5) / kSamples;
          const double v = y + (k / kSamples + 0.5) / kSamples;
          hits += inside(u, v) ? 1 : 0;
        }
        if (hits > 0) blend(x, y, color, static_cast<double>(hits) / (kSamples * kSamples));
      }
    }
  }

  void disc(double x, double y, double radius, Color color);
  /// `picture` with its pixels enlarged to squares of `scale`.
  void enlarged(int x, int y, const episode::Image& picture, int scale);

  /// One line of text, letters 5 x 7 pixels times `scale` (tails 2 lower), 6 x scale apart. Capitals are drawn small; a
  /// character there is no drawing of becomes an empty box.
  void text(int x, int y, std::string_view line, Color color, int scale = 1);
  [[nodiscard]] static int text_width(std::string_view line, int scale = 1);

  [[nodiscard]] episode::Image take() && { return std::move(image_); }

 private:
  static constexpr int kSamples = 4;  // per side and pixel
  void blend(int x, int y, Color color, double share);
  episode::Image image_;
};

}  // namespace gato::env
