#include "kernels/cuda/rows.h"

#include "kernels/cuda/arguments.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/search.h"
#include "kernels/cuda/vectors.h"

namespace gato::kernels::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarpSize;

/// Rows are copied as words whatever their elements are: 16, 4 or 2 bytes.
__device__ __forceinline__ uint4 load_word(const uint4* from) { return load16(from); }
__device__ __forceinline__ uint32_t load_word(const uint32_t* from) { return *from; }
__device__ __forceinline__ uint16_t load_word(const uint16_t* from) { return *from; }
__device__ __forceinline__ void store_word(uint4* to, uint4 word) { store16(to, word); }
__device__ __forceinline__ void store_word(uint32_t* to, uint32_t word) { *to = word; }
__device__ __forceinline__ void store_word(uint16_t* to, uint16_t word) { *to = word; }

template <class Word>
__device__ __forceinline__ Word word_of(uint32_t bits) {
  if constexpr (sizeof(Word) == 16) {
    return make_uint4(bits, bits, bits, bits);
  } else {
    return static_cast<Word>(bits);
  }
}

constexpr uint32_t kNanBits = 0xffffffffu;  // NaN in every element type

/// One warp copies a row of `words`, or fills it with `otherwise` where `from` is null.
template <class Word>
__device__ __forceinline__ void copy_row(const Word* from, Word* to, int64_t words, uint32_t otherwise) {
  const auto lane = static_cast<int64_t>(threadIdx.x % kWarpSize);
#pragma unroll 4
  for (int64_t i = lane; i < words; i += kWarpSize) {
    store_word(to + i, from == nullptr ? word_of<Word>(otherwise) : load_word(from + i));
  }
}

__device__ __forceinline__ int64_t row_of_warp() {
  return static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarpSize;
}

template <class Word>
__global__ void __launch_bounds__(kThreads) gather_rows_kernel(const Word* from, int64_t rows, int64_t words,
                                                               const int64_t* positions, int64_t count, Word* to) {
  const int64_t i = row_of_warp();
  if (i >= count) return;
  const int64_t position = positions[i];
  const bool inside = position >= 0 && position < rows;
  copy_row(inside ? from + position * words : nullptr, to + i * words, words, kNanBits);
}

template <class Word>
__global__ void __launch_bounds__(kThreads) scatter_rows_kernel(const Word* from, int64_t rows, int64_t words,
                                                                const int64_t* positions, int64_t count, Word* to) {
  const int64_t row = row_of_warp();
  if (row >= rows) return;
  const int64_t i = find_ascending(positions, count, row);
  copy_row(i >= 0 ? from + i * words : nullptr, to + row * words, words, 0);
}

/// Calls body(Word{}, words) with the largest words that rows of `bytes` bytes at both addresses are made of.
template <class Body>
void with_words(int64_t bytes, const void* from, const void* to, const Body& body) {
  if (bytes % 16 == 0 && all_aligned(16, from, to)) {
    body(uint4{}, bytes / 16);
  } else if (bytes % 4 == 0 && all_aligned(4, from, to)) {
    body(uint32_t{}, bytes / 4);
  } else {
    body(uint16_t{}, bytes / 2);
  }
}

/// A block has a group of kRowsOfBias rows and kThreads kCount columns, whose biases each thread keeps.
constexpr int64_t kRowsOfBias = 16;

template <class T, int kCount, bool kAccumulate>
__global__ void __launch_bounds__(kThreads)
    add_bias_kernel(const float* bias, T* y, int64_t rows, int64_t width, unsigned blocks_per_row) {
  const int64_t column = (static_cast<int64_t>(blockIdx.x % blocks_per_row) * kThreads + threadIdx.x) * kCount;
  if (column >= width) return;
  const int64_t begin = blockIdx.x / blocks_per_row * kRowsOfBias;
  const int64_t end = begin + kRowsOfBias < rows ? begin + kRowsOfBias : rows;
  const Floats<kCount> added = load_floats<kCount>(bias + column);
#pragma unroll 4
  for (int64_t row = begin; row < end; ++row) {
    Floats<kCount> sum = added;
    if constexpr (kAccumulate) add_to(sum, load_floats<kCount>(y + row * width + column));
    store_floats(y + row * width + column, sum);
  }
}

template <class T, bool kAccumulate>
void launch_add_bias(const RowBias& call, Stream stream) {
  auto* y = static_cast<T*>(call.y);
  const bool vectors = call.width % 4 == 0 && is_aligned(call.bias, 16) && is_aligned(y, 4 * sizeof(T));
  const int64_t blocks_per_row = ceil_div(call.width, kThreads * (vectors ? 4 : 1));
  const unsigned blocks = num_blocks(blocks_per_row * ceil_div(call.rows, kRowsOfBias), 1);
  launch({"add_bias", blocks, kThreads, 0, stream},
         vectors ? add_bias_kernel<T, 4, kAccumulate> : add_bias_kernel<T, 1, kAccumulate>, call.bias, y, call.rows,
         call.width, static_cast<unsigned>(blocks_per_row));
}

void check_shape(int64_t rows, int64_t width, int64_t count) {
  check_range(rows, 0, int64_t{1} << 32, "rows");
  check_range(width, 0, int64_t{1} << 30, "width");
  check_range(count, 0, int64_t{1} << 32, "count");
}

}  // namespace

void gather_rows(const GatherRows& call, Stream stream) {
  check_shape(call.rows, call.width, call.count);
  if (call.count == 0 || call.width == 0) return;
  const auto bytes = static_cast<int64_t>(element_bytes(call.element));
  if (call.rows > 0) check_pointer(call.from, element_bytes(call.element), "from");
  check_pointer(call.positions, "positions");
  check_pointer(call.to, element_bytes(call.element), "to");
  with_words(call.width * bytes, call.from, call.to, [&]<class Word>(Word, int64_t words) {
    launch({"gather_rows", num_blocks(call.count, kWarps), kThreads, 0, stream}, gather_rows_kernel<Word>,
           static_cast<const Word*>(call.from), call.rows, words, call.positions, call.count,
           static_cast<Word*>(call.to));
  });
}

void scatter_rows(const ScatterRows& call, Stream stream) {
  check_shape(call.rows, call.width, call.count);
  if (call.rows == 0 || call.width == 0) return;
  const auto bytes = static_cast<int64_t>(element_bytes(call.element));
  if (call.count > 0) check_pointer(call.from, element_bytes(call.element), "from");
  if (call.count > 0) check_pointer(call.positions, "positions");
  check_pointer(call.to, element_bytes(call.element), "to");
  with_words(call.width * bytes, call.from, call.to, [&]<class Word>(Word, int64_t words) {
    launch({"scatter_rows", num_blocks(call.rows, kWarps), kThreads, 0, stream}, scatter_rows_kernel<Word>,
           static_cast<const Word*>(call.from), call.rows, words, call.positions, call.count,
           static_cast<Word*>(call.to));
  });
}

void add_bias(const RowBias& call, Stream stream) {
  check_element(call.element, "add_bias");
  check_shape(call.rows, call.width, 0);
  if (call.rows == 0 || call.width == 0) return;
  check_pointer(call.bias, "bias");
  check_pointer(call.y, element_bytes(call.element), "y");
  const bool bf16 = call.element == Element::kBFloat16;
  if (call.accumulate) {
    bf16 ? launch_add_bias<BFloat16, true>(call, stream) : launch_add_bias<float, true>(call, stream);
  } else {
    bf16 ? launch_add_bias<BFloat16, false>(call, stream) : launch_add_bias<float, false>(call, stream);
  }
}

}  // namespace gato::kernels::cuda
