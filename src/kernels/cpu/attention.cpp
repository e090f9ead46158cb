#include "kernels/cpu/attention.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <type_traits>

#include "kernels/cpu/vector.h"

// A sequence is worked off in groups of kGroup queries, each of which sees the keys up to its last query and no more.
// All products have the form C[kGroup, n] = A[kGroup, k] B[k, n] with n a multiple of the vector length, so keys (and
// in backward values) are also held transposed, in tiles of 32 columns one after the other: rows of a long sequence's
// transposed keys would be a power of two apart and share cache sets. Buffers are padded with zeros: queries to whole
// groups, sequence and head dimension to whole vectors.
namespace gato::kernels::cpu {
namespace {

constexpr int64_t kGroup = 8;
constexpr int64_t kTile = 2 * kLanes;  // columns of a tile of transposed keys
constexpr float kMasked = -std::numeric_limits<float>::infinity();

/// Scratch memory of a thread that only grows, aligned for vectors.
class Scratch {
 public:
  ~Scratch() { release(); }
  float* reserve(int64_t floats) {
    if (floats > capacity_) {
      release();
      memory_ = static_cast<float*>(::operator new(static_cast<size_t>(floats) * sizeof(float), kAlignment));
      capacity_ = floats;
    }
    return memory_;
  }

 private:
  static constexpr std::align_val_t kAlignment{64};
  void release() { ::operator delete(memory_, kAlignment); }
  float* memory_ = nullptr;
  int64_t capacity_ = 0;
};

Scratch& thread_scratch() {
  static thread_local Scratch scratch;
  return scratch;
}

/// Places of one sequence's buffers.
struct Buffers {
  int64_t length, columns, lanes;                // length; padded to vectors; head_dim padded to vectors
  float *query, *key, *key_t, *value, *value_t;  // [columns, lanes], or transposed in tiles [columns / 32, lanes, 32]
  float *out_gradient, *query_gradient, *key_gradient, *value_gradient;
  int64_t row;                    // floats from one row of scores to the next
  float *score, *score_gradient;  // [kGroup, row]
  float* vector;                  // [lanes]
};

Buffers make_buffers(int64_t length, int64_t head_dim, bool backward) {
  Buffers b{};
  b.length = length;
  b.columns = round_up(length, kTile);
  b.lanes = round_up(head_dim, kLanes);
  const int64_t matrix = b.columns * b.lanes;
  const int64_t matrices = backward ? 9 : 3;
  b.row = b.columns + kLanes;  // rows a power of two apart would share cache sets
  float* p = thread_scratch().reserve(matrices * matrix + 2 * kGroup * b.row + b.lanes);
  // Without padding only what is summed into needs zeros.
  const bool padded = b.columns != length || b.lanes != head_dim;
  const auto take = [&p](int64_t size, bool zero) {
    float* place = p;
    p += size;
    if (zero) std::memset(place, 0, static_cast<size_t>(size) * sizeof(float));
    return place;
  };
  b.query = take(matrix, padded);
  b.key_t = take(matrix, padded);
  b.value = take(matrix, padded);
  if (backward) {
    b.key = take(matrix, padded);
    b.value_t = take(matrix, padded);
    b.out_gradient = take(matrix, padded);
    b.query_gradient = take(matrix, false);
    b.key_gradient = take(matrix, true);
    b.value_gradient = take(matrix, true);
  }
  b.score = take(kGroup * b.row, false);
  b.score_gradient = take(kGroup * b.row, false);
  b.vector = take(b.lanes, false);
  return b;
}

/// y = x rotated by the angles of `position` (or backwards), times `scale`; without tables only scaled.
GATO_INLINE void rotate(const AttentionShape& shape, int64_t position, bool backwards, float scale, const float* x,
                        float* y) {
  const int64_t dim = shape.head_dim;
  if (shape.cosine == nullptr) {
    for (int64_t i = 0; i < dim; ++i) y[i] = x[i] * scale;
    return;
  }
  const int64_t half = dim / 2;
  const float* cosine = shape.cosine + position * half;
  const float* sine = shape.sine + position * half;
  const float sign = backwards ? -scale : scale;
  for (int64_t i = 0; i < half; ++i) {
    const float a = x[i], b = x[half + i];
    y[i] = a * (cosine[i] * scale) - b * (sine[i] * sign);
    y[half + i] = b * (cosine[i] * scale) + a * (sine[i] * sign);
  }
}

/// Column `place` of a matrix of `lanes` rows held in tiles.
GATO_INLINE void transpose_into(const float* x, int64_t dim, int64_t lanes, float* tiles, int64_t place) {
  float* column = tiles + place / kTile * (kTile * lanes) + place % kTile;
  for (int64_t i = 0; i < dim; ++i) column[i * kTile] = x[i];
}

template <class From, class To>
GATO_INLINE void copy_vector(const From* x, To* y, int64_t dim) {
  for_vectors(
      dim, [&](int64_t i, int64_t lanes) __attribute__((always_inline)) { put(y + i, get(x + i, lanes), lanes); });
}

/// Transposed keys: rows `stride` floats apart, tiles of 32 columns `tile` floats apart.
struct KeysView {
  const float* keys;
  int64_t stride, tile;
};

/// Scores of a group's queries, whose first one is number `first` of the sequence, over keys [0, n): masked, causal.
GATO_INLINE void causal_scores(const float* query, int64_t query_stride, const KeysView& keys, int64_t head_dim,
                               int64_t first, int64_t n, float* score, int64_t score_stride) {
  multiply<kGroup>(query, query_stride, keys.keys, keys.stride, keys.tile, score, score_stride, head_dim, n);
  for (int64_t r = 0; r < kGroup; ++r) {
    for (int64_t j = first + r + 1; j < n; ++j) score[r * score_stride + j] = kMasked;
  }
}

/// exp(score - shift) in place over n columns, none of which is above `shift` by more than rounding; returns the sum.
GATO_INLINE float exponentials(float* score, int64_t n, float shift) {
  Floats total{};
  for (int64_t j = 0; j < n; j += kLanes) {
    const Floats e = exp_nonpositive(load(score + j) - shift);
    store(score + j, e);
    total += e;
  }
  return sum(total);
}

GATO_INLINE float maximum(const float* score, int64_t n) {
  Floats top = load(score);
  for (int64_t j = kLanes; j < n; j += kLanes) top = max(top, load(score + j));
  return max(top);
}

/// What a softmax's logarithms need.
struct SoftmaxSum {
  float top, total;
};

/// Softmax of one query's scores in place.
GATO_INLINE SoftmaxSum softmax_row(float* row, int64_t n) {
  const float top = maximum(row, n);
  const float total = exponentials(row, n, top);
  const float inverse = 1.0f / total;
  for (int64_t j = 0; j < n; j += kLanes) store(row + j, load(row + j) * inverse);
  return {top, total};
}

/// Softmax of a group's scores in place; returns log-sum-exp per query in `log_sum` [kGroup].
GATO_INLINE void softmax_group(float* score, int64_t stride, int64_t n, float* log_sum) {
  for (int64_t r = 0; r < kGroup; ++r) {
    const SoftmaxSum sum = softmax_row(score + r * stride, n);
    log_sum[r] = sum.top + std::log(sum.total);
  }
}

/// kVectors vectors of columns of add_outer.
template <int kVectors>
GATO_INLINE void add_outer_columns(const float* weight, int64_t weight_stride, const float* x, int64_t lanes,
                                   float* gradient, int64_t n) {
  Floats row[kGroup][kVectors];
  for (int64_t r = 0; r < kGroup; ++r) {
    for (int v = 0; v < kVectors; ++v) row[r][v] = load(x + r * lanes + v * kLanes);
  }
  for (int64_t j = 0; j < n; ++j) {
    float* to = gradient + j * lanes;
    Floats total[kVectors];
    for (int v = 0; v < kVectors; ++v) total[v] = load(to + v * kLanes);
    for (int64_t r = 0; r < kGroup; ++r) {
      for (int v = 0; v < kVectors; ++v) total[v] += weight[r * weight_stride + j] * row[r][v];
    }
    for (int v = 0; v < kVectors; ++v) store(to + v * kLanes, total[v]);
  }
}

/// gradient[j, :] += sum over the group of weight[r, j] x[r, :], for j in [0, n).
GATO_INLINE void add_outer(const float* weight, int64_t weight_stride, const float* x, int64_t lanes, float* gradient,
                           int64_t n) {
  int64_t d = 0;
  for (; d + 2 * kLanes <= lanes; d += 2 * kLanes) {
    add_outer_columns<2>(weight, weight_stride, x + d, lanes, gradient + d, n);
  }
  if (d < lanes) add_outer_columns<1>(weight, weight_stride, x + d, lanes, gradient + d, n);
}

/// Where a head's vectors are.
template <class T>
struct HeadView {
  int64_t token_stride;  // of qkv
  const T* query;
  const T* key;
  const T* value;
};

template <class T>
GATO_INLINE HeadView<T> head_view(const AttentionShape& shape, int64_t row, int64_t head, const T* qkv) {
  const int64_t width = shape.heads * shape.head_dim;
  const T* base = qkv + row * shape.tokens * 3 * width + head * shape.head_dim;
  return {3 * width, base, base + width, base + 2 * width};
}

GATO_INLINE int64_t sequence_end(const int32_t* starts, int64_t tokens, int64_t begin) {
  int64_t end = begin + 1;
  while (end < tokens && starts[end] == begin) ++end;
  return end;
}

/// y = x rotated, for x of either type, by way of `vector`.
template <class T>
GATO_INLINE void rotate_from(const AttentionShape& shape, int64_t position, float scale, const T* x, float* y,
                             float* vector) {
  if constexpr (std::is_same_v<T, float>) {
    rotate(shape, position, false, scale, x, y);
  } else {
    copy_vector(x, vector, shape.head_dim);
    rotate(shape, position, false, scale, vector, y);
  }
}

/// y = x rotated backwards, for y of either type, by way of `vector`.
template <class T>
GATO_INLINE void rotate_back_to(const AttentionShape& shape, int64_t position, float scale, const float* x, T* y,
                                float* vector) {
  if constexpr (std::is_same_v<T, float>) {
    rotate(shape, position, true, scale, x, y);
  } else {
    rotate(shape, position, true, scale, x, vector);
    copy_vector(vector, y, shape.head_dim);
  }
}

template <class T>
GATO_INLINE void forward_sequence(const AttentionShape& shape, const HeadView<T>& view, int64_t begin, int64_t length,
                                  T* out, int64_t out_stride, float* log_sum) {
  const Buffers b = make_buffers(length, shape.head_dim, false);
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
  const KeysView keys_t{b.key_t, kTile, kTile * b.lanes};
  for (int64_t i = 0; i < length; ++i) {
    const int64_t at = (begin + i) * view.token_stride;
    rotate_from(shape, i, scale, view.query + at, b.query + i * b.lanes, b.score);
    rotate_from(shape, i, 1, view.key + at, b.vector, b.score);
    transpose_into(b.vector, shape.head_dim, b.lanes, b.key_t, i);
    copy_vector(view.value + at, b.value + i * b.lanes, shape.head_dim);
  }
  for (int64_t first = 0; first < length; first += kGroup) {
    const int64_t keys = first + kGroup < length ? first + kGroup : length;
    const int64_t n = round_up(keys, kLanes);
    float group_log_sum[kGroup];
    causal_scores(b.query + first * b.lanes, b.lanes, keys_t, shape.head_dim, first, n, b.score, b.row);
    softmax_group(b.score, b.row, n, group_log_sum);
    // The queries of this group have served: their place takes the result.
    multiply<kGroup>(b.score, b.row, b.value, b.lanes, kTile, b.query + first * b.lanes, b.lanes, keys, b.lanes);
    for (int64_t i = first; i < keys; ++i) {
      copy_vector(b.query + i * b.lanes, out + (begin + i) * out_stride, shape.head_dim);
      log_sum[begin + i] = group_log_sum[i - first];
    }
  }
}

/// Fills the buffers of a sequence for backward.
template <class T>
GATO_INLINE void gather_backward(const AttentionShape& shape, const HeadView<T>& view, int64_t begin, float scale,
                                 const T* out_gradient, int64_t out_stride, const Buffers& b) {
  for (int64_t i = 0; i < b.length; ++i) {
    const int64_t at = (begin + i) * view.token_stride;
    const int64_t place = i * b.lanes;
    rotate_from(shape, i, scale, view.query + at, b.query + place, b.vector);
    rotate_from(shape, i, 1, view.key + at, b.key + place, b.vector);
    transpose_into(b.key + place, shape.head_dim, b.lanes, b.key_t, i);
    copy_vector(view.value + at, b.value + place, shape.head_dim);
    transpose_into(b.value + place, shape.head_dim, b.lanes, b.value_t, i);
    copy_vector(out_gradient + (begin + i) * out_stride, b.out_gradient + place, shape.head_dim);
  }
}

/// Gradients of one group of queries: writes its rows of query_gradient, adds to key_gradient and value_gradient.
GATO_INLINE void backward_group(const AttentionShape& shape, const Buffers& b, int64_t first, const float* log_sum) {
  const int64_t keys = first + kGroup < b.length ? first + kGroup : b.length;
  const int64_t n = round_up(keys, kLanes);
  const float* query = b.query + first * b.lanes;
  const float* out_gradient = b.out_gradient + first * b.lanes;
  const int64_t tile = kTile * b.lanes;
  causal_scores(query, b.lanes, {b.key_t, kTile, tile}, shape.head_dim, first, n, b.score, b.row);
  multiply<kGroup>(out_gradient, b.lanes, b.value_t, kTile, tile, b.score_gradient, b.row, shape.head_dim, n);
  for (int64_t r = 0; r < kGroup; ++r) {
    float* p = b.score + r * b.row;
    float* dp = b.score_gradient + r * b.row;
    // Rows behind the sequence's end are zeros in out_gradient and query, so that any finite weights do.
    exponentials(p, n, first + r < b.length ? log_sum[first + r] : maximum(p, n));
    Floats product{};
    for (int64_t j = 0; j < n; j += kLanes) product += load(p + j) * load(dp + j);
    const float mean = sum(product);
    for (int64_t j = 0; j < n; j += kLanes) store(dp + j, load(p + j) * (load(dp + j) - mean));
  }
  multiply<kGroup>(b.score_gradient, b.row, b.key, b.lanes, kTile, b.query_gradient + first * b.lanes, b.lanes, keys,
                   b.lanes);
  add_outer(b.score_gradient, b.row, query, b.lanes, b.key_gradient, keys);
  add_outer(b.score, b.row, out_gradient, b.lanes, b.value_gradient, keys);
}

template <class T>
GATO_INLINE void attention_forward_body(const AttentionShape& shape, int64_t row, int64_t head, const T* qkv,
                                        const int32_t* starts, T* out, float* log_sum) {
  const HeadView<T> view = head_view(shape, row, head, qkv);
  const int32_t* row_starts = starts + row * shape.tokens;
  const int64_t width = shape.heads * shape.head_dim;
  T* head_out = out + row * shape.tokens * width + head * shape.head_dim;
  float* head_log_sum = log_sum + (row * shape.heads + head) * shape.tokens;
  for (int64_t begin = 0; begin < shape.tokens;) {
    const int64_t end = sequence_end(row_starts, shape.tokens, begin);
    forward_sequence(shape, view, begin, end - begin, head_out, width, head_log_sum);
    begin = end;
  }
}

template <class T>
GATO_INLINE void attention_backward_body(const AttentionShape& shape, int64_t row, int64_t head, const T* qkv,
                                         const int32_t* starts, const float* log_sum, const T* out_gradient,
                                         T* qkv_gradient) {
  const HeadView<T> view = head_view(shape, row, head, qkv);
  const int64_t width = shape.heads * shape.head_dim;
  const int32_t* row_starts = starts + row * shape.tokens;
  const T* head_out_gradient = out_gradient + row * shape.tokens * width + head * shape.head_dim;
  const float* head_log_sum = log_sum + (row * shape.heads + head) * shape.tokens;
  T* query_out = qkv_gradient + (view.query - qkv);
  T* key_out = qkv_gradient + (view.key - qkv);
  T* value_out = qkv_gradient + (view.value - qkv);
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
  for (int64_t begin = 0; begin < shape.tokens;) {
    const int64_t end = sequence_end(row_starts, shape.tokens, begin);
    const Buffers b = make_buffers(end - begin, shape.head_dim, true);
    gather_backward(shape, view, begin, scale, head_out_gradient, width, b);
    for (int64_t first = 0; first < b.length; first += kGroup) backward_group(shape, b, first, head_log_sum + begin);
    for (int64_t i = 0; i < b.length; ++i) {
      const int64_t at = (begin + i) * view.token_stride;
      rotate_back_to(shape, i, scale, b.query_gradient + i * b.lanes, query_out + at, b.vector);
      rotate_back_to(shape, i, 1, b.key_gradient + i * b.lanes, key_out + at, b.vector);
      copy_vector(b.value_gradient + i * b.lanes, value_out + at, shape.head_dim);
    }
    begin = end;
  }
}

/// Where one head of one slot is in the cache.
template <class C>
struct CachedHead {
  C* keys;    // [capacity / 32, head_dim, 32]
  C* values;  // [capacity, lanes]
  int64_t lanes;
};

template <class C>
GATO_INLINE CachedHead<C> cached_head(const AttentionShape& shape, const CacheView<C>& cache, int64_t slot,
                                      int64_t head) {
  const int64_t place = (slot * shape.heads + head) * cache.capacity;
  return {cache.keys + place * shape.head_dim, cache.values + place * cache.lanes, cache.lanes};
}

/// Scratch of a thread for a group of queries.
struct GroupBuffers {
  float *score, *by_distance;  // [kGroup, columns], [columns]
  float *query, *result;       // [kGroup, lanes]
  float* vector;               // [lanes]
  int64_t columns;
};

GATO_INLINE GroupBuffers make_group_buffers(int64_t tokens, int64_t lanes) {
  GroupBuffers b{};
  b.columns = round_up(tokens, kLanes) + kLanes;  // rows a power of two apart would share cache sets
  b.score = thread_scratch().reserve((kGroup + 1) * b.columns + (2 * kGroup + 1) * lanes);
  b.by_distance = b.score + kGroup * b.columns;
  b.query = b.by_distance + b.columns;
  b.result = b.query + kGroup * lanes;
  b.vector = b.result + kGroup * lanes;
  return b;
}

GATO_INLINE Bf16 to_bf16(float x) {
  const auto bits = __builtin_bit_cast(uint32_t, x);
  const uint32_t rounded = x == x ? (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 : bits >> 16 | 0x40;
  return {static_cast<uint16_t>(rounded)};
}

/// Where number `i` of a row of Bf16 in the cache is.
GATO_INLINE int64_t kept_place(int64_t i) { return i / kCacheTile * kCacheTile + i % kLanes * 2 + i / kLanes % 2; }

/// One token's key and value into the cache.
template <class T, class C>
GATO_INLINE void keep_token(const AttentionShape& shape, const CachedHead<C>& kept, int64_t position, const T* key,
                            const T* value, const GroupBuffers& b) {
  rotate_from(shape, position, 1, key, b.result, b.vector);
  C* tile = kept.keys + position / kCacheTile * (kCacheTile * shape.head_dim);
  C* row = kept.values + position * kept.lanes;
  if constexpr (std::is_same_v<C, float>) {
    for (int64_t d = 0; d < shape.head_dim; ++d) tile[d * kCacheTile + position % kCacheTile] = b.result[d];
    copy_vector(value, row, shape.head_dim);
  } else {
    const int64_t column = kept_place(position % kCacheTile);
    for (int64_t d = 0; d < shape.head_dim; ++d) tile[d * kCacheTile + column] = to_bf16(b.result[d]);
    for (int64_t d = 0; d < shape.head_dim; ++d) row[kept_place(d)] = value[d];  // Bf16 comes with Bf16
  }
}

/// C = A B as multiply(), for a matrix of the cache: whole tiles of 32 columns, of which C has room for all.
template <int kRows>
GATO_INLINE void multiply_kept(const float* a, int64_t lda, const float* b, int64_t ldb, int64_t tile, float* c,
                               int64_t ldc, int64_t k, int64_t n) {
  multiply<kRows>(a, lda, b, ldb, tile, c, ldc, k, n);
}
template <int kRows>
GATO_INLINE void multiply_kept(const float* a, int64_t lda, const Bf16* b, int64_t ldb, int64_t tile, float* c,
                               int64_t ldc, int64_t k, int64_t n) {
  using WordsUnaligned = uint32_t __attribute__((vector_size(64), aligned(2), may_alias));
  constexpr int64_t kAhead = 16;  // rows; decoding streams through memory
  for (int64_t j = 0; j < n; j += kCacheTile, b += tile) {
    Floats low[kRows] = {}, high[kRows] = {};
    for (int64_t i = 0; i < k; ++i) {
      const Bf16* row = b + i * ldb;
      if constexpr (kRows == 1) __builtin_prefetch(row + kAhead * ldb);
      const Words both = *reinterpret_cast<const WordsUnaligned*>(row);
      const auto first = (Floats)(both << 16), second = (Floats)(both & 0xFFFF0000U);
      for (int r = 0; r < kRows; ++r) {
        low[r] += a[r * lda + i] * first;
        high[r] += a[r * lda + i] * second;
      }
    }
    for (int r = 0; r < kRows; ++r) {
      store(c + r * ldc + j, low[r]);
      store(c + r * ldc + j + kLanes, high[r]);
    }
  }
}

/// score [n] += products of the query at `position` with its distances to keys [0, n).
template <class T>
GATO_INLINE void add_distance_scores(const AttentionShape& shape, const DistanceView& view, int64_t head,
                                     int64_t position, float scale, const T* query, int64_t n, float* score,
                                     const GroupBuffers& b) {
  const float* bias = view.position_bias + head * shape.head_dim;
  copy_vector(query, b.vector, shape.head_dim);
  for (int64_t d = 0; d < shape.head_dim; ++d) b.vector[d] = (b.vector[d] + bias[d]) * scale;
  const float* columns = view.distances + head * shape.head_dim * view.stride + (view.count - 1 - position);
  multiply<1>(b.vector, 0, columns, view.stride, kTile, b.by_distance, 0, shape.head_dim, n);
  for (int64_t j = 0; j < n; j += kLanes) store(score + j, load(score + j) + load(b.by_distance + j));
}

/// The queries of a group, ready for products with keys.
template <class T>
GATO_INLINE void gather_queries(const AttentionShape& shape, const DistanceView* distances, int64_t head,
                                int64_t position, int64_t rows, float scale, const T* query, int64_t lanes,
                                const GroupBuffers& b) {
  const int64_t stride = 3 * shape.heads * shape.head_dim;
  if (rows > 1) std::memset(b.query, 0, static_cast<size_t>(kGroup * lanes) * sizeof(float));
  for (int64_t r = 0; r < rows; ++r) {
    float* to = b.query + r * lanes;
    if (distances == nullptr) {
      rotate_from(shape, position + r, scale, query + r * stride, to, b.vector);
      continue;
    }
    const float* bias = distances->content_bias + head * shape.head_dim;
    copy_vector(query + r * stride, to, shape.head_dim);
    for (int64_t d = 0; d < shape.head_dim; ++d) to[d] = (to[d] + bias[d]) * scale;
  }
}

/// Results of `rows` queries, kRows or fewer, the first of which is number `position` of its slot.
template <int kRows, class T, class C>
GATO_INLINE void cached_group(const AttentionShape& shape, const CachedHead<C>& kept, const DistanceView* distances,
                              int64_t head, int64_t position, int64_t rows, const T* query, T* out,
                              const GroupBuffers& b) {
  const int64_t width = shape.heads * shape.head_dim, lanes = kept.lanes;
  const int64_t keys = position + rows, n = round_up(keys, kLanes);
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
  gather_queries(shape, distances, head, position, rows, scale, query, lanes, b);
  multiply_kept<kRows>(b.query, lanes, kept.keys, kCacheTile, kCacheTile * shape.head_dim, b.score, b.columns,
                       shape.head_dim, n);
  for (int64_t r = 0; r < rows; ++r) {
    float* score = b.score + r * b.columns;
    if (distances != nullptr) {
      add_distance_scores(shape, *distances, head, position + r, scale, query + r * 3 * width, n, score, b);
    }
    for (int64_t j = position + r + 1; j < n; ++j) score[j] = kMasked;
    softmax_row(score, n);
  }
  multiply_kept<kRows>(b.score, b.columns, kept.values, lanes, kTile, b.result, lanes, keys, lanes);
  for (int64_t r = 0; r < rows; ++r) copy_vector(b.result + r * lanes, out + r * width, shape.head_dim);
}

template <class T, class C>
GATO_INLINE void attention_cached_body(const AttentionShape& shape, const CacheView<C>& cache,
                                       const DistanceView* distances, int64_t slot, int64_t head, int64_t position,
                                       int64_t count, const T* qkv, T* out) {
  const int64_t width = shape.heads * shape.head_dim;
  const CachedHead<C> kept = cached_head(shape, cache, slot, head);
  const GroupBuffers b = make_group_buffers(position + count, cache.lanes);
  const T* query = qkv + head * shape.head_dim;
  T* result = out + head * shape.head_dim;
  for (int64_t i = 0; i < count; ++i) {
    const T* key = query + (3 * i + 1) * width;
    keep_token(shape, kept, position + i, key, key + width, b);
  }
  for (int64_t first = 0; first < count; first += kGroup) {
    const int64_t rows = count - first < kGroup ? count - first : kGroup;
    const T* from = query + first * 3 * width;
    if (rows == 1) {
      cached_group<1>(shape, kept, distances, head, position + first, rows, from, result + first * width, b);
    } else {
      cached_group<kGroup>(shape, kept, distances, head, position + first, rows, from, result + first * width, b);
    }
  }
}

}  // namespace

GATO_DISPATCH(void, attention_forward,
              (const AttentionShape& shape, int64_t row, int64_t head, const float* qkv, const int32_t* starts,
               float* out, float* log_sum),
              (shape, row, head, qkv, starts, out, log_sum))
GATO_DISPATCH(void, attention_forward,
              (const AttentionShape& shape, int64_t row, int64_t head, const Bf16* qkv, const int32_t* starts,
               Bf16* out, float* log_sum),
              (shape, row, head, qkv, starts, out, log_sum))
GATO_DISPATCH(void, attention_backward,
              (const AttentionShape& shape, int64_t row, int64_t head, const float* qkv, const int32_t* starts,
               const float* log_sum, const float* out_gradient, float* qkv_gradient),
              (shape, row, head, qkv, starts, log_sum, out_gradient, qkv_gradient))
GATO_DISPATCH(void, attention_backward,
              (const AttentionShape& shape, int64_t row, int64_t head, const Bf16* qkv, const int32_t* starts,
               const float* log_sum, const Bf16* out_gradient, Bf16* qkv_gradient),
              (shape, row, head, qkv, starts, log_sum, out_gradient, qkv_gradient))
GATO_DISPATCH(void, attention_cached,
              (const AttentionShape& shape, const CacheView<float>& cache, const DistanceView* distances, int64_t slot,
               int64_t head, int64_t position, int64_t count, const float* qkv, float* out),
              (shape, cache, distances, slot, head, position, count, qkv, out))
GATO_DISPATCH(void, attention_cached,
              (const AttentionShape& shape, const CacheView<float>& cache, const DistanceView* distances, int64_t slot,
               int64_t head, int64_t position, int64_t count, const Bf16* qkv, Bf16* out),
              (shape, cache, distances, slot, head, position, count, qkv, out))
GATO_DISPATCH(void, attention_cached,
              (const AttentionShape& shape, const CacheView<Bf16>& cache, const DistanceView* distances, int64_t slot,
               int64_t head, int64_t position, int64_t count, const Bf16* qkv, Bf16* out),
              (shape, cache, distances, slot, head, position, count, qkv, out))

}  // namespace gato::kernels::cpu
