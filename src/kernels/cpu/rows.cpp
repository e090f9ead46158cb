#include "kernels/cpu/rows.h"

#include <cstring>

#include "kernels/cpu/vector.h"

namespace gato::kernels::cpu {

void fill_rows(const float* bias, int64_t width, float* y, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    std::memcpy(y + row * width, bias, static_cast<size_t>(width) * sizeof(float));
  }
}

GATO_MULTIVERSION void add(const float* x, float* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] += x[i];
}

GATO_MULTIVERSION void add_column_sums(const float* x, int64_t width, float* totals, int64_t begin, int64_t end) {
  // Four columns of vectors at a time stay in registers over all rows.
  int64_t c = 0;
  for (; c + 4 * kLanes <= width; c += 4 * kLanes) {
    Floats sums[4];
    for (int64_t v = 0; v < 4; ++v) sums[v] = load(totals + c + v * kLanes);
    for (int64_t row = begin; row < end; ++row) {
      for (int64_t v = 0; v < 4; ++v) sums[v] += load(x + row * width + c + v * kLanes);
    }
    for (int64_t v = 0; v < 4; ++v) store(totals + c + v * kLanes, sums[v]);
  }
  for (int64_t row = begin; row < end; ++row) {
    for (int64_t i = c; i < width; ++i) totals[i] += x[row * width + i];
  }
}

}  // namespace gato::kernels::cpu
