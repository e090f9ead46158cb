#include "tokenizer/patches.h"

#include <algorithm>
#include <cstring>

#include "gato/core/error.h"

namespace gato::tokenizer {
namespace {

constexpr int64_t kPatchRowBytes = kPatchSide * 3;

uint8_t interval_border(int64_t patch, int64_t patches) {
  return static_cast<uint8_t>(patch * kPatchIntervals / patches);
}

void cut_patch(const episode::Image& image, int64_t row, int64_t column, uint8_t* bytes) {
  const int64_t top = row * kPatchSide, left = column * kPatchSide;
  const int64_t height = std::min<int64_t>(kPatchSide, image.height - top);
  const int64_t width_bytes = 3 * std::min<int64_t>(kPatchSide, image.width - left);
  if (height < kPatchSide || width_bytes < kPatchRowBytes) std::memset(bytes, 0, static_cast<size_t>(kPatchBytes));
  for (int64_t y = 0; y < height; ++y) {
    const uint8_t* from = image.pixels.data() + 3 * ((top + y) * image.width + left);
    std::memcpy(bytes + y * kPatchRowBytes, from, static_cast<size_t>(width_bytes));
  }
}

}  // namespace

PatchPosition patch_position(int64_t row, int64_t column, int64_t rows, int64_t columns) {
  GATO_CHECK(rows >= 1 && rows <= kPatchIntervals && columns >= 1 && columns <= kPatchIntervals, "an image of ", rows,
             " x ", columns, " patches; each side must be in [1, ", kPatchIntervals, "]");
  GATO_CHECK(row >= 0 && row < rows && column >= 0 && column < columns, "patch (", row, ", ", column, ") of ", rows,
             " x ", columns);
  return {interval_border(row, rows), interval_border(row + 1, rows), interval_border(column, columns),
          interval_border(column + 1, columns)};
}

void detail::cut_patches(const episode::Image& image, uint8_t* bytes, PatchPosition* positions) {
  const int64_t rows = patches_along(image.height), columns = patches_along(image.width);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = 0; column < columns; ++column) {
      cut_patch(image, row, column, bytes);
      *positions++ = patch_position(row, column, rows, columns);
      bytes += kPatchBytes;
    }
  }
}

}  // namespace gato::tokenizer
