#include "kernels/cpu/packed_linear.h"

#include <array>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels/cpu/rows.h"
#include "kernels/cpu/vector.h"

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#include <immintrin.h>
#define GATO_HAS_TARGETS 1
#define GATO_TARGET_AVX2 __attribute__((target("arch=x86-64-v3")))
#define GATO_TARGET_AVX512 __attribute__((target("arch=x86-64-v4,prefer-vector-width=512")))
#define GATO_TARGET_DOT __attribute__((target("arch=x86-64-v4,avx512bf16,prefer-vector-width=512")))
#else
#define GATO_HAS_TARGETS 0
#endif

// The unit of work is a tile: up to kMost rows of x against one panel, their sums in registers over all inputs. A row's
// sums are formed in the same order in tiles of any height. Processors with AVX512-BF16 multiply pairs of bf16
// directly; on all others pairs are widened, and so is x, once per call. They round sums in other places.
namespace gato::kernels::cpu {
namespace {

constexpr int64_t kPair = 2 * kPanel;  // weights of a panel for a pair of inputs

/// One tile's part of a task.
template <class W, class X, class Y>
struct Tile {
  const W* panel;
  const X* x;
  int64_t inputs;
  const float* scales;  // of the panel's outputs, or null
  const float* bias;
  Y* y;                // the first row's place of the panel's output 0, which may lie outside when begin > 0
  int64_t y_stride;    // from row to row
  int64_t begin, end;  // outputs of the panel that are wanted
};

using WordsUnaligned = uint32_t __attribute__((vector_size(64), aligned(1), may_alias));
using HalvesAnywhere = uint16_t __attribute__((vector_size(32), aligned(1), may_alias));

/// Weights of 16 outputs for the first and the second input of a pair.
GATO_INLINE void load_pair(const float* pair, int64_t lane, Floats& first, Floats& second) {
  first = load(pair + lane);
  second = load(pair + kPanel + lane);
}
GATO_INLINE void load_pair(const Bf16* pair, int64_t lane, Floats& first, Floats& second) {
  const Words both = *reinterpret_cast<const WordsUnaligned*>(pair + 2 * lane);
  first = (Floats)(both << 16);
  second = (Floats)(both & 0xFFFF0000U);
}
GATO_INLINE void load_pair(const int8_t* pair, int64_t lane, Floats& first, Floats& second) {
  const Halves both = *reinterpret_cast<const HalvesAnywhere*>(pair + 2 * lane);
  const Ints wide = (Ints) __builtin_convertvector(both, Words);
  first = __builtin_convertvector((wide << 24) >> 24, Floats);
  second = __builtin_convertvector((wide << 16) >> 24, Floats);
}

/// Scale, bias, and the way into y, of one row's sums.
template <class W, class X, class Y>
GATO_INLINE void finish(const Tile<W, X, Y>& tile, int64_t row, int64_t lane, Floats sums) {
  if (tile.scales != nullptr) sums *= load(tile.scales + lane);
  if (tile.bias != nullptr) sums += load(tile.bias + lane);
  Y* y = tile.y + row * tile.y_stride;
  if (tile.begin <= lane && lane + kLanes <= tile.end) {
    store(y + lane, sums);
    return;
  }
  Y all[kLanes];
  store(all, sums);
  for (int64_t i = 0; i < kLanes; ++i) {
    if (lane + i >= tile.begin && lane + i < tile.end) y[lane + i] = all[i];
  }
}

/// Sums of kRows rows over 16 kVectors outputs from `lane` on, by multiplications of floats.
template <int kRows, int kVectors, class W, class Y>
GATO_INLINE void multiply_lanes(const Tile<W, float, Y>& tile, int64_t lane) {
  Floats sums[kRows][kVectors] = {};
  const W* pair = tile.panel;
  int64_t i = 0;
  for (; i + 2 <= tile.inputs; i += 2, pair += kPair) {
    Floats first[kVectors], second[kVectors];
    for (int v = 0; v < kVectors; ++v) load_pair(pair, lane + v * kLanes, first[v], second[v]);
    for (int r = 0; r < kRows; ++r) {
      const float* x = tile.x + r * tile.inputs + i;
      for (int v = 0; v < kVectors; ++v) sums[r][v] += x[0] * first[v];
      for (int v = 0; v < kVectors; ++v) sums[r][v] += x[1] * second[v];
    }
  }
  if (i < tile.inputs) {
    for (int v = 0; v < kVectors; ++v) {
      Floats first, second;
      load_pair(pair, lane + v * kLanes, first, second);
      for (int r = 0; r < kRows; ++r) sums[r][v] += tile.x[r * tile.inputs + i] * first;
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) finish(tile, r, lane + v * kLanes, sums[r][v]);
  }
}

template <class W, class X, class Y>
using TileFunction = void (*)(const Tile<W, X, Y>& tile);

/// The functions of tiles of 1, 2, .. rows on one path.
template <class W, class X, class Y>
struct TileFunctions {
  const TileFunction<W, X, Y>* by_rows;
  int64_t most;
};

// Registers for sums: 16 vectors of 16 floats at most on AVX-512 beside weights, half of that elsewhere.
constexpr int kMostWide = 12;
constexpr int kMostNarrow = 4;

template <int kRows, class W, class Y>
void tile_plain(const Tile<W, float, Y>& tile) {
  multiply_lanes<kRows, 1>(tile, 0);
  multiply_lanes<kRows, 1>(tile, kLanes);
}

template <class W, class Y, int... kIndex>
TileFunctions<W, float, Y> plain_tiles(std::integer_sequence<int, kIndex...>) {
  static constexpr TileFunction<W, float, Y> kTiles[] = {tile_plain<kIndex + 1, W, Y>...};
  return {kTiles, sizeof...(kIndex)};
}

#if GATO_HAS_TARGETS
template <int kRows, class W, class Y>
GATO_TARGET_AVX2 void tile_avx2(const Tile<W, float, Y>& tile) {
  multiply_lanes<kRows, 1>(tile, 0);
  multiply_lanes<kRows, 1>(tile, kLanes);
}

template <int kRows, class W, class Y>
GATO_TARGET_AVX512 void tile_avx512(const Tile<W, float, Y>& tile) {
  multiply_lanes<kRows, 2>(tile, 0);
}

template <class W, class Y, int... kIndex>
TileFunctions<W, float, Y> avx2_tiles(std::integer_sequence<int, kIndex...>) {
  static constexpr TileFunction<W, float, Y> kTiles[] = {tile_avx2<kIndex + 1, W, Y>...};
  return {kTiles, sizeof...(kIndex)};
}

template <class W, class Y, int... kIndex>
TileFunctions<W, float, Y> avx512_tiles(std::integer_sequence<int, kIndex...>) {
  static constexpr TileFunction<W, float, Y> kTiles[] = {tile_avx512<kIndex + 1, W, Y>...};
  return {kTiles, sizeof...(kIndex)};
}

/// 16 outputs' pairs of bf16 weights.
GATO_TARGET_DOT GATO_INLINE __m512bh load_dot(const Bf16* pair, int64_t lane) {
  return (__m512bh)_mm512_loadu_si512(pair + 2 * lane);
}
GATO_TARGET_DOT GATO_INLINE __m512bh load_dot(const int8_t* pair, int64_t lane) {
  Floats first, second;  // integers up to 127 are exact in bf16
  load_pair(pair, lane, first, second);
  return (__m512bh)(((Words)first >> 16) | ((Words)second & 0xFFFF0000U));
}

template <int kRows, class W, class Y>
GATO_TARGET_DOT void tile_dot(const Tile<W, Bf16, Y>& tile) {
  __m512 sums[kRows][2];
  for (int r = 0; r < kRows; ++r) sums[r][0] = sums[r][1] = _mm512_setzero_ps();
  const W* pair = tile.panel;
  int64_t i = 0;
  for (; i + 2 <= tile.inputs; i += 2, pair += kPair) {
    const __m512bh low = load_dot(pair, 0), high = load_dot(pair, kLanes);
    for (int r = 0; r < kRows; ++r) {
      int32_t both;
      std::memcpy(&both, tile.x + r * tile.inputs + i, sizeof both);
      const auto x = (__m512bh)_mm512_set1_epi32(both);
      sums[r][0] = _mm512_dpbf16_ps(sums[r][0], low, x);
      sums[r][1] = _mm512_dpbf16_ps(sums[r][1], high, x);
    }
  }
  if (i < tile.inputs) {
    const __m512bh low = load_dot(pair, 0), high = load_dot(pair, kLanes);
    for (int r = 0; r < kRows; ++r) {
      const auto x = (__m512bh)_mm512_set1_epi32(tile.x[r * tile.inputs + i].bits);
      sums[r][0] = _mm512_dpbf16_ps(sums[r][0], low, x);
      sums[r][1] = _mm512_dpbf16_ps(sums[r][1], high, x);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    finish(tile, r, 0, (Floats)sums[r][0]);
    finish(tile, r, kLanes, (Floats)sums[r][1]);
  }
}

template <class W, class Y, int... kIndex>
TileFunctions<W, Bf16, Y> dot_tiles(std::integer_sequence<int, kIndex...>) {
  static constexpr TileFunction<W, Bf16, Y> kTiles[] = {tile_dot<kIndex + 1, W, Y>...};
  return {kTiles, sizeof...(kIndex)};
}

/// A panel of integers as bf16.
GATO_TARGET_DOT void widen_panel(const int8_t* panel, int64_t pairs, Bf16* wide) {
  for (int64_t i = 0; i < pairs; ++i, panel += kPair, wide += kPair) {
    _mm512_storeu_si512(wide, (__m512i)load_dot(panel, 0));
    _mm512_storeu_si512(wide + kPanel, (__m512i)load_dot(panel, kLanes));
  }
}

bool has_dot() {
  static const bool supported = __builtin_cpu_supports("avx512bf16") != 0;
  return supported && cpu_path() == CpuPath::kAvx512;
}
#endif

template <class W, class Y>
TileFunctions<W, float, Y> float_tiles() {
  constexpr auto kNarrow = std::make_integer_sequence<int, kMostNarrow>();
#if GATO_HAS_TARGETS
  switch (cpu_path()) {
    case CpuPath::kAvx512:
      return avx512_tiles<W, Y>(std::make_integer_sequence<int, kMostWide>());
    case CpuPath::kAvx2:
      return avx2_tiles<W, Y>(kNarrow);
    case CpuPath::kPlain:
      break;
  }
#endif
  return plain_tiles<W, Y>(kNarrow);
}

/// Work of one call: rows [0, rows) of `x`, which are rows of `y` too.
template <class W, class X, class Y>
struct Part {
  const X* x;
  Y* y;
  int64_t rows;
  int64_t stride;  // of y
};

/// All rows against one panel, in tiles as even as possible.
template <class W, class X, class Y>
void multiply_panel(const Part<W, X, Y>& part, Tile<W, X, Y> tile, const TileFunctions<W, X, Y>& functions) {
  const int64_t tiles = (part.rows + functions.most - 1) / functions.most;
  Y* const y = tile.y;
  for (int64_t t = 0; t < tiles; ++t) {
    const int64_t begin = part.rows * t / tiles, end = part.rows * (t + 1) / tiles;
    tile.x = part.x + begin * tile.inputs;
    tile.y = y + begin * part.stride;
    functions.by_rows[end - begin - 1](tile);
  }
}

/// What of `panel` a task wants, without x.
template <class W, class X, class Y, class TaskX>
Tile<W, X, Y> tile_of(const PackedLinearTask<W, TaskX, Y>& task, int64_t panel, Y* y, const W* weights) {
  const int64_t output = panel * kPanel;
  return {weights,
          nullptr,
          task.inputs,
          task.scales == nullptr ? nullptr : task.scales + output,
          task.bias == nullptr ? nullptr : task.bias + output,
          y + (output - task.first),
          task.last - task.first,
          task.first > output ? task.first - output : 0,
          task.last < output + kPanel ? task.last - output : kPanel};
}

template <class W, class TaskX, class Y>
const W* panel_weights(const PackedLinearTask<W, TaskX, Y>& task, int64_t panel) {
  return task.panels + panel * (round_up(task.inputs, 2) * kPanel);
}

template <class W, class X, class Y>
void multiply_floats(const PackedLinearTask<W, X, Y>& task, int64_t row_begin, int64_t row_end, int64_t panel_begin,
                     int64_t panel_end) {
  const int64_t stride = task.last - task.first;
  Part<W, float, Y> part{nullptr, task.y + row_begin * stride, row_end - row_begin, stride};
  if constexpr (std::is_same_v<X, float>) {
    part.x = task.x + row_begin * task.inputs;
  } else {
    static thread_local std::vector<float> wide;
    const auto size = static_cast<size_t>(part.rows * task.inputs);
    if (wide.size() < size) wide.resize(size);
    convert(task.x + row_begin * task.inputs, wide.data(), part.rows * task.inputs);
    part.x = wide.data();
  }
  const TileFunctions<W, float, Y> functions = float_tiles<W, Y>();
  for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
    multiply_panel(part, tile_of<W, float, Y>(task, panel, part.y, panel_weights(task, panel)), functions);
  }
}

#if GATO_HAS_TARGETS
template <class Y>
void multiply_pairs(const PackedLinearTask<Bf16, Bf16, Y>& task, int64_t row_begin, int64_t row_end,
                    int64_t panel_begin, int64_t panel_end) {
  const int64_t stride = task.last - task.first;
  const Part<Bf16, Bf16, Y> part{task.x + row_begin * task.inputs, task.y + row_begin * stride, row_end - row_begin,
                                 stride};
  const auto functions = dot_tiles<Bf16, Y>(std::make_integer_sequence<int, kMostWide>());
  for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
    multiply_panel(part, tile_of<Bf16, Bf16, Y>(task, panel, part.y, panel_weights(task, panel)), functions);
  }
}

/// A panel that serves several tiles is widened once.
template <class Y>
void multiply_pairs(const PackedLinearTask<int8_t, Bf16, Y>& task, int64_t row_begin, int64_t row_end,
                    int64_t panel_begin, int64_t panel_end) {
  const int64_t stride = task.last - task.first;
  const Bf16* x = task.x + row_begin * task.inputs;
  Y* y = task.y + row_begin * stride;
  const int64_t rows = row_end - row_begin;
  if (rows <= 2 * kMostWide) {  // widening once more is cheaper than the way through memory
    const auto functions = dot_tiles<int8_t, Y>(std::make_integer_sequence<int, kMostWide>());
    for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
      multiply_panel({x, y, rows, stride}, tile_of<int8_t, Bf16, Y>(task, panel, y, panel_weights(task, panel)),
                     functions);
    }
    return;
  }
  static thread_local std::vector<Bf16> wide;
  const int64_t pairs = (task.inputs + 1) / 2;
  if (wide.size() < static_cast<size_t>(pairs * kPair)) wide.resize(static_cast<size_t>(pairs * kPair));
  const PackedLinearTask<Bf16, Bf16, Y> wide_task{wide.data(), task.scales, task.bias,  task.inputs,
                                                  task.x,      task.y,      task.first, task.last};
  const auto functions = dot_tiles<Bf16, Y>(std::make_integer_sequence<int, kMostWide>());
  for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
    widen_panel(panel_weights(task, panel), pairs, wide.data());
    multiply_panel({x, y, rows, stride}, tile_of<Bf16, Bf16, Y>(wide_task, panel, y, wide.data()), functions);
  }
}
#endif

template <class W, class Y>
void multiply_narrow(const PackedLinearTask<W, Bf16, Y>& task, int64_t row_begin, int64_t row_end, int64_t panel_begin,
                     int64_t panel_end) {
#if GATO_HAS_TARGETS
  if (has_dot()) {
    multiply_pairs(task, row_begin, row_end, panel_begin, panel_end);
    return;
  }
#endif
  multiply_floats(task, row_begin, row_end, panel_begin, panel_end);
}

}  // namespace

void packed_linear(const PackedLinearTask<float, float, float>& task, int64_t row_begin, int64_t row_end,
                   int64_t panel_begin, int64_t panel_end) {
  multiply_floats(task, row_begin, row_end, panel_begin, panel_end);
}
void packed_linear(const PackedLinearTask<Bf16, Bf16, Bf16>& task, int64_t row_begin, int64_t row_end,
                   int64_t panel_begin, int64_t panel_end) {
  multiply_narrow(task, row_begin, row_end, panel_begin, panel_end);
}
void packed_linear(const PackedLinearTask<Bf16, Bf16, float>& task, int64_t row_begin, int64_t row_end,
                   int64_t panel_begin, int64_t panel_end) {
  multiply_narrow(task, row_begin, row_end, panel_begin, panel_end);
}
void packed_linear(const PackedLinearTask<int8_t, Bf16, Bf16>& task, int64_t row_begin, int64_t row_end,
                   int64_t panel_begin, int64_t panel_end) {
  multiply_narrow(task, row_begin, row_end, panel_begin, panel_end);
}
void packed_linear(const PackedLinearTask<int8_t, Bf16, float>& task, int64_t row_begin, int64_t row_end,
                   int64_t panel_begin, int64_t panel_end) {
  multiply_narrow(task, row_begin, row_end, panel_begin, panel_end);
}

}  // namespace gato::kernels::cpu
