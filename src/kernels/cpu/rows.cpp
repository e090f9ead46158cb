#include "kernels/cpu/rows.h"

#include <cstring>

#include "kernels/cpu/vector.h"

namespace gato::kernels::cpu {
namespace {

template <class T>
GATO_INLINE void add_body(const T* x, float* y, int64_t n) {
  for_vectors(
      n, [&](int64_t i, int64_t lanes)
             __attribute__((always_inline)) { put(y + i, get(y + i, lanes) + get(x + i, lanes), lanes); });
}

template <class From, class To>
GATO_INLINE void convert_body(const From* x, To* y, int64_t n) {
  for_vectors(
      n, [&](int64_t i, int64_t lanes) __attribute__((always_inline)) { put(y + i, get(x + i, lanes), lanes); });
}

template <class T>
GATO_INLINE void add_column_sums_body(const T* x, int64_t width, float* totals, int64_t begin, int64_t end) {
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
  for (; c < width; c += kLanes) {
    const int64_t lanes = width - c < kLanes ? width - c : kLanes;
    Floats sums = get(totals + c, lanes);
    for (int64_t row = begin; row < end; ++row) sums += get(x + row * width + c, lanes);
    put(totals + c, sums, lanes);
  }
}

GATO_INLINE void fill_rows_body(const float* bias, int64_t width, Bf16* y, int64_t begin, int64_t end) {
  if (begin >= end) return;
  Bf16* first = y + begin * width;
  convert_body(bias, first, width);
  for (int64_t row = begin + 1; row < end; ++row) {
    std::memcpy(y + row * width, first, static_cast<size_t>(width) * sizeof(Bf16));
  }
}

}  // namespace

void fill_rows(const float* bias, int64_t width, float* y, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    std::memcpy(y + row * width, bias, static_cast<size_t>(width) * sizeof(float));
  }
}

GATO_DISPATCH(void, fill_rows, (const float* bias, int64_t width, Bf16* y, int64_t begin, int64_t end),
              (bias, width, y, begin, end))
GATO_DISPATCH(void, add, (const float* x, float* y, int64_t n), (x, y, n))
GATO_DISPATCH(void, add, (const Bf16* x, float* y, int64_t n), (x, y, n))
GATO_DISPATCH(void, convert, (const float* x, Bf16* y, int64_t n), (x, y, n))
GATO_DISPATCH(void, convert, (const Bf16* x, float* y, int64_t n), (x, y, n))
GATO_DISPATCH(void, add_column_sums, (const float* x, int64_t width, float* totals, int64_t begin, int64_t end),
              (x, width, totals, begin, end))
GATO_DISPATCH(void, add_column_sums, (const Bf16* x, int64_t width, float* totals, int64_t begin, int64_t end),
              (x, width, totals, begin, end))

}  // namespace gato::kernels::cpu
