#include <algorithm>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/episode/image.h"

namespace gato::episode {
namespace {

/// One side of a resize: every new pixel is a weighted mean of a run of old ones. Weights are whole numbers of a common
/// sum, so results are the same on every machine.
struct Taps {
  int64_t first = 0;
  std::vector<int64_t> weights;
};

/// Where a side shrinks: old pixel i covers [i * to, (i + 1) * to), new pixel j covers [j * from, (j + 1) * from).
Taps covered_area(int64_t j, int64_t from, int64_t to) {
  const int64_t begin = j * from, end = begin + from;
  Taps taps;
  taps.first = begin / to;
  for (int64_t i = taps.first; i * to < end; ++i) {
    taps.weights.push_back(std::min((i + 1) * to, end) - std::max(i * to, begin));
  }
  return taps;
}

/// Where it grows: linear between the centres of the two nearest old pixels; sum 2 * to.
Taps nearest_two(int64_t j, int64_t from, int64_t to) {
  // Centre of new pixel j in units of 1 / (2 * to) old pixels, from the centre of old pixel 0.
  const int64_t centre = std::clamp((2 * j + 1) * from - to, int64_t{0}, 2 * to * (from - 1));
  Taps taps;
  taps.first = centre / (2 * to);
  const int64_t second = centre % (2 * to);
  taps.weights.push_back(2 * to - second);
  if (second != 0) taps.weights.push_back(second);
  return taps;
}

std::vector<Taps> taps_of(int64_t from, int64_t to) {
  std::vector<Taps> taps;
  for (int64_t j = 0; j < to; ++j) taps.push_back(to < from ? covered_area(j, from, to) : nearest_two(j, from, to));
  return taps;
}

/// Sum of the weights of one side.
int64_t weight_of(int64_t from, int64_t to) { return to < from ? from : 2 * to; }

}  // namespace

Image resize_image(const Image& image, int32_t height, int32_t width) {
  const ImageLimits limits;
  GATO_CHECK(height >= 1 && width >= 1 && height <= limits.max_side && width <= limits.max_side,
             "an image cannot be resized to ", height, " x ", width);
  GATO_CHECK(image.height >= 1 && image.width >= 1 &&
                 image.pixels.size() == static_cast<size_t>(image.height) * static_cast<size_t>(image.width) * 3,
             "image of ", image.height, " x ", image.width, " with ", image.pixels.size(), " bytes");
  if (image.height == height && image.width == width) return image;
  const std::vector<Taps> columns = taps_of(image.width, width), rows = taps_of(image.height, height);
  const int64_t total = weight_of(image.width, width) * weight_of(image.height, height);
  Image result{height, width, std::vector<uint8_t>(static_cast<size_t>(height) * static_cast<size_t>(width) * 3)};
  const auto row_bytes = static_cast<size_t>(width) * 3;
  std::vector<int64_t> sums(row_bytes);
  for (size_t y = 0; y < rows.size(); ++y) {
    std::fill(sums.begin(), sums.end(), 0);
    for (size_t i = 0; i < rows[y].weights.size(); ++i) {
      const uint8_t* from =
          image.pixels.data() + (static_cast<size_t>(rows[y].first) + i) * static_cast<size_t>(image.width) * 3;
      for (size_t x = 0; x < columns.size(); ++x) {
        const uint8_t* pixel = from + static_cast<size_t>(columns[x].first) * 3;
        for (const int64_t column_weight : columns[x].weights) {
          const int64_t weight = column_weight * rows[y].weights[i];
          for (size_t channel = 0; channel < 3; ++channel) sums[x * 3 + channel] += weight * *pixel++;
        }
      }
    }
    for (size_t i = 0; i < row_bytes; ++i) {
      result.pixels[y * row_bytes + i] = static_cast<uint8_t>((sums[i] + total / 2) / total);
    }
  }
  return result;
}

}  // namespace gato::episode
