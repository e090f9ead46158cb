#pragma once
// Tiles of 2-byte elements in shared memory and the matrix products of a warp with them.
//
// A tile has any number of rows (tokens) of kDim elements (32, 64 or 128), cut into chunks of 16 bytes. Chunk c of row
// r lies at another place of the row, exclusive-or of c and a number that changes from row to row, so that the eight
// rows that one phase of ldmatrix reads at one column, as well as the eight chunks that one phase of a copy writes,
// fall into different banks:
//
// clang-format off
//   kDim >= 64: c ^ (r % 8)          row 0 | 0 1 2 3 4 5 6 7
//                                    row 1 | 1 0 3 2 5 4 7 6
//                                    row 2 | 2 3 0 1 6 7 4 5
//   kDim = 32: c ^ (r / 2 % 4)       rows 0, 1 | 0 1 2 3  0 1 2 3      (two rows share 128 bytes)
//                                    rows 2, 3 | 1 0 3 2  1 0 3 2
//                                    rows 4, 5 | 2 3 0 1  2 3 0 1
// clang-format on
#include <cstdint>

#include "kernels/cuda/device.h"

namespace gato::kernels::cuda {

inline constexpr int kChunk = 8;  ///< Elements of 16 bytes.

/// Element offset of chunk `chunk` of row `row` in a tile.
template <int kDim>
__device__ __forceinline__ int tile_offset(int row, int chunk) {
  static_assert(kDim == 32 || kDim == 64 || kDim == 128, "what the swizzle is made for");
  const int turn = kDim == 32 ? (row >> 1) & 3 : row & 7;
  return row * kDim + ((chunk ^ turn) * kChunk);
}

// ------------------------------------------------------------------------------------------------ copies and rotation

/// Rotary angles: null cosine for none.
struct Rotary {
  const float* cosine;
  const float* sine;
  int last_position;
};

/// Rotates elements (low, high) of a first and a second half by an angle, or backwards for a sine with turned sign.
__device__ __forceinline__ void rotate(float cosine, float sine, float& low, float& high) {
  const float x = low;
  low = x * cosine - high * sine;
  high = high * cosine + x * sine;
}

template <class T>
__device__ __forceinline__ void rotate_packed(float cosine0, float cosine1, float sine0, float sine1, uint32_t& low,
                                              uint32_t& high) {
  float2 a = unpack2<T>(low);
  float2 b = unpack2<T>(high);
  rotate(cosine0, sine0, a.x, b.x);
  rotate(cosine1, sine1, a.y, b.y);
  low = pack2<T>(a.x, a.y);
  high = pack2<T>(b.x, b.y);
}

__device__ __forceinline__ float4 load_floats(const void* from) {
  const uint4 bits = load16(from);
  return make_float4(__uint_as_float(bits.x), __uint_as_float(bits.y), __uint_as_float(bits.z),
                     __uint_as_float(bits.w));
}

/// Rotates eight elements of a first half and their partners by the angles of `position`, of which `element` is the
/// first.
template <class T, int kDim>
__device__ __forceinline__ void rotate_chunks(const Rotary& rotary, int position, int element, uint4& low,
                                              uint4& high) {
  const int at = position * (kDim / 2) + element;
  const float4 cosine = load_floats(rotary.cosine + at);
  const float4 sine = load_floats(rotary.sine + at);
  rotate_packed<T>(cosine.x, cosine.y, sine.x, sine.y, low.x, high.x);
  rotate_packed<T>(cosine.z, cosine.w, sine.z, sine.w, low.y, high.y);
  const float4 cosine_next = load_floats(rotary.cosine + at + 4);
  const float4 sine_next = load_floats(rotary.sine + at + 4);
  rotate_packed<T>(cosine_next.x, cosine_next.y, sine_next.x, sine_next.y, low.z, high.z);
  rotate_packed<T>(cosine_next.z, cosine_next.w, sine_next.z, sine_next.w, low.w, high.w);
}

/// How kThreads threads share a tile of kRows rows: a thread has the same `kItems` places of every tile, each a chunk
/// of a row's first half and its partner in the second half. So a thread can rotate what it has copied itself as soon
/// as its own copies are there, before the barrier that makes the tile everybody's.
template <class T, int kDim, int kRows, int kThreads>
struct TileCopy {
  static constexpr int kHalf = kDim / 2 / kChunk;  ///< Chunks of half a row.
  static constexpr int kPlaces = kRows * kHalf;
  static constexpr int kItems = (kPlaces + kThreads - 1) / kThreads;
  static_assert(kRows % 8 == 0, "the order of rows below goes by eights");

  /// Rows follow each other so that eight lanes write eight different bank groups of the swizzled tile.
  static __device__ __forceinline__ int row_of(int place) {
    const int i = place / kHalf;
    if constexpr (kDim == 64) return (i >> 3 << 3) | ((i & 1) << 2) | (i >> 1 & 3);
    if constexpr (kDim == 32) return (i >> 3 << 3) | ((i & 2) << 1) | (i >> 1 & 2) | (i & 1);
    return i;
  }

  /// Starts copying rows [first, first + kRows) of `source`; rows from `end` on become zeros.
  static __device__ __forceinline__ void start(T* tile, const T* source, int stride, int first, int end) {
    const int thread = forgotten(static_cast<int>(threadIdx.x));
#pragma unroll
    for (int item = 0; item < kItems; ++item) {
      const int place = item * kThreads + thread;
      if (kPlaces % kThreads != 0 && place >= kPlaces) break;
      const int r = row_of(place);
      const int c = place % kHalf;
      const bool exists = first + r < end;
      const T* from = source + (exists ? (first + r) * stride : 0) + c * kChunk;
      cp_async_16(tile + tile_offset<kDim>(r, c), from, exists ? 16 : 0);
      cp_async_16(tile + tile_offset<kDim>(r, c + kHalf), from + kDim / 2, exists ? 16 : 0);
    }
  }

  /// Rotates this thread's places of a tile's first `rows` rows, row r by the angles of position(r). One place after
  /// the other: registers are what the kernels have least of.
  template <class Position>
  static __device__ __forceinline__ void rotate(T* tile, const Rotary& rotary, int rows, Position position) {
    const int thread = forgotten(static_cast<int>(threadIdx.x));
#pragma unroll 1
    for (int item = 0; item < kItems; ++item) {
      const int place = item * kThreads + thread;
      const int r = row_of(place);
      const int c = place % kHalf;
      if (place >= kPlaces || r >= rows) break;
      T* low_place = tile + tile_offset<kDim>(r, c);
      T* high_place = tile + tile_offset<kDim>(r, c + kHalf);
      uint4 low = load16(low_place);
      uint4 high = load16(high_place);
      rotate_chunks<T, kDim>(rotary, position(r), c * kChunk, low, high);
      store16(low_place, low);
      store16(high_place, high);
    }
  }
};

// -------------------------------------------------------------------------------------------------- matrix products
// A warp works on kRowTiles times 16 rows. Sums are held as mma gives them: [row tile][column tile of 8][4], where
// elements 0, 1 belong to row lane / 4 of the 16 and 2, 3 to the row eight below, in columns 2 (lane % 4) and the next.

template <int kRowTiles, int kColumns>
__device__ __forceinline__ void set_zero(float (&sums)[kRowTiles][kColumns / 8][4]) {
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n) sums[m][n][0] = sums[m][n][1] = sums[m][n][2] = sums[m][n][3] = 0.0f;
  }
}

/// sums[i, j] = <row_i, column_j> over kDim: rows are the warp's, from `first_row` of tile `rows` on, columns are rows
/// [first_column, first_column + kColumns) of tile `columns`.
template <class T, int kDim, int kRowTiles, int kColumns>
__device__ __forceinline__ void multiply_transposed(const T* rows, int first_row, const T* columns, int first_column,
                                                    float (&sums)[kRowTiles][kColumns / 8][4]) {
  const int lane = forgotten(static_cast<int>(threadIdx.x)) % kWarpSize;
  const int column = first_column + (lane & 7) + (lane >> 4 << 3);
  set_zero<kRowTiles, kColumns>(sums);
#pragma unroll
  for (int k = 0; k < kDim / 16; ++k) {
    uint32_t a[kRowTiles][4];
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      ldmatrix<4>(a[m], rows + tile_offset<kDim>(first_row + m * 16 + (lane & 15), 2 * k + (lane >> 4)));
    }
#pragma unroll
    for (int n = 0; n < kColumns / 16; ++n) {
      uint32_t b[4];
      ldmatrix<4>(b, columns + tile_offset<kDim>(column + n * 16, 2 * k + (lane >> 3 & 1)));
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        mma_m16n8k16<T>(sums[m][2 * n], a[m], b[0], b[1]);
        mma_m16n8k16<T>(sums[m][2 * n + 1], a[m], b[2], b[3]);
      }
    }
  }
}

/// Sums in mma's layout, rounded to T, as the left operand of multiply_add: 16 columns of sums are one operand of 16 in
/// k.
template <class T, int kRowTiles, int kColumns>
__device__ __forceinline__ void pack_operand(const float (&sums)[kRowTiles][kColumns / 8][4],
                                             uint32_t (&operand)[kRowTiles][kColumns / 16][4]) {
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
#pragma unroll
    for (int n = 0; n < kColumns / 8; ++n) {
      operand[m][n / 2][n % 2 * 2] = pack2<T>(sums[m][n][0], sums[m][n][1]);
      operand[m][n / 2][n % 2 * 2 + 1] = pack2<T>(sums[m][n][2], sums[m][n][3]);
    }
  }
}

/// sums[i, d] += sum over j of operand[i, j] * row_j[d], for rows [first_row, first_row + kColumns) of tile `rows`.
template <class T, int kDim, int kRowTiles, int kColumns>
__device__ __forceinline__ void multiply_add(const uint32_t (&operand)[kRowTiles][kColumns / 16][4], const T* rows,
                                             int first_row, float (&sums)[kRowTiles][kDim / 8][4]) {
  const int lane = forgotten(static_cast<int>(threadIdx.x)) % kWarpSize;
#pragma unroll
  for (int k = 0; k < kColumns / 16; ++k) {
#pragma unroll
    for (int n = 0; n < kDim / 16; ++n) {
      uint32_t b[4];
      ldmatrix_trans<4>(b, rows + tile_offset<kDim>(first_row + k * 16 + (lane & 15), 2 * n + (lane >> 4)));
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) {
        mma_m16n8k16<T>(sums[m][2 * n], operand[m][k], b[0], b[1]);
        mma_m16n8k16<T>(sums[m][2 * n + 1], operand[m][k], b[2], b[3]);
      }
    }
  }
}

// --------------------------------------------------------------------------------------------------------- results

/// Two neighbouring elements, packed by pack2, at an even offset of a tile.
template <class T>
__device__ __forceinline__ void store_pair(T* place, uint32_t pair) {
  *reinterpret_cast<uint32_t*>(place) = pair;
}

/// Writes the warp's rows of sums, each times its `factor`, as T into rows [first_row, ...) of a tile that only this
/// warp uses. Other lanes see them after __syncwarp().
template <class T, int kDim, int kRowTiles>
__device__ __forceinline__ void put_rows(const float (&sums)[kRowTiles][kDim / 8][4],
                                         const float (&factor)[kRowTiles][2], T* tile, int first_row) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  __syncwarp();  // what other lanes have read there
#pragma unroll
  for (int m = 0; m < kRowTiles; ++m) {
    const int row = first_row + m * 16 + lane / 4;
#pragma unroll
    for (int n = 0; n < kDim / 8; ++n) {
      const float(&s)[4] = sums[m][n];
      const int at = 2 * (lane % 4);
      store_pair(tile + tile_offset<kDim>(row, n) + at, pack2<T>(s[0] * factor[m][0], s[1] * factor[m][0]));
      store_pair(tile + tile_offset<kDim>(row + 8, n) + at, pack2<T>(s[2] * factor[m][1], s[3] * factor[m][1]));
    }
  }
}

/// Copies a warp's kRows rows of a tile to global memory in 16-byte pieces: row r to `to` + (first + r) * stride unless
/// first + r >= end.
template <class T, int kDim, int kRows>
__device__ __forceinline__ void store_rows(const T* tile, int first_row, T* to, int stride, int first, int end) {
  constexpr int kChunks = kDim / kChunk;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
#pragma unroll
  for (int i = 0; i < kRows * kChunks / kWarpSize; ++i) {
    const int row = (i * kWarpSize + lane) / kChunks;
    const int chunk = (i * kWarpSize + lane) % kChunks;
    if (first + row < end) {
      store16(to + (first + row) * stride + chunk * kChunk, load16(tile + tile_offset<kDim>(first_row + row, chunk)));
    }
  }
}

}  // namespace gato::kernels::cuda
