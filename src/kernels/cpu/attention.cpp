#include "kernels/cpu/attention.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <new>

#include "kernels/cpu/vector.h"

// A sequence is worked off in groups of kGroup queries. All products have the form C[kGroup, n] = A[kGroup, k] B[k, n]
// with n a multiple of the vector length, so keys (and in backward values) are also held transposed. Buffers are
// padded: queries to whole groups, sequence and head dimension to whole vectors, with zeros.
namespace gato::kernels::cpu {
namespace {

constexpr int64_t kGroup = 4;
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
  float *query, *key, *key_t, *value, *value_t;  // [length to groups, lanes] or transposed [lanes, columns]
  float *out_gradient, *query_gradient, *key_gradient, *value_gradient;
  float *score, *score_gradient;  // [kGroup, columns]
  float* vector;                  // [lanes]
};

Buffers make_buffers(int64_t length, int64_t head_dim, bool backward) {
  Buffers b{};
  b.length = length;
  b.columns = round_up(length, kLanes);
  b.lanes = round_up(head_dim, kLanes);
  const int64_t matrix = b.columns * b.lanes;
  const int64_t matrices = backward ? 9 : 3;
  float* p = thread_scratch().reserve(matrices * matrix + 2 * kGroup * b.columns + b.lanes);
  std::memset(p, 0, static_cast<size_t>(matrices * matrix) * sizeof(float));
  const auto take = [&p](int64_t size) {
    float* place = p;
    p += size;
    return place;
  };
  b.query = take(matrix);
  b.key_t = take(matrix);
  b.value = take(matrix);
  if (backward) {
    b.key = take(matrix);
    b.value_t = take(matrix);
    b.out_gradient = take(matrix);
    b.query_gradient = take(matrix);
    b.key_gradient = take(matrix);
    b.value_gradient = take(matrix);
  }
  b.score = take(kGroup * b.columns);
  b.score_gradient = take(kGroup * b.columns);
  b.vector = take(b.lanes);
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

GATO_INLINE void transpose_into(const float* x, int64_t dim, float* columns, int64_t stride, int64_t place) {
  for (int64_t i = 0; i < dim; ++i) columns[i * stride + place] = x[i];
}

/// Scores of a group's queries, whose first one is number `first` of the sequence, over keys [0, n): masked, causal.
GATO_INLINE void causal_scores(const float* query, int64_t query_stride, const float* key_t, int64_t key_stride,
                               int64_t head_dim, int64_t first, int64_t n, float* score, int64_t score_stride) {
  multiply<kGroup>(query, query_stride, key_t, key_stride, score, score_stride, head_dim, n);
  for (int64_t r = 0; r < kGroup; ++r) {
    for (int64_t j = first + r + 1; j < n; ++j) score[r * score_stride + j] = kMasked;
  }
}

/// exp(score - shift) in place over n columns; returns the sum.
GATO_INLINE float exponentials(float* score, int64_t n, float shift) {
  Floats total{};
  for (int64_t j = 0; j < n; j += kLanes) {
    const Floats e = exp(load(score + j) - shift);
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

/// Softmax of a group's scores in place; returns log-sum-exp per query in `log_sum` [kGroup].
GATO_INLINE void softmax_group(float* score, int64_t stride, int64_t n, float* log_sum) {
  for (int64_t r = 0; r < kGroup; ++r) {
    float* row = score + r * stride;
    const float top = maximum(row, n);
    const float total = exponentials(row, n, top);
    const float inverse = 1.0f / total;
    for (int64_t j = 0; j < n; j += kLanes) store(row + j, load(row + j) * inverse);
    log_sum[r] = top + std::log(total);
  }
}

/// gradient[j, :] += sum over the group of weight[r, j] x[r, :], for j in [0, n).
GATO_INLINE void add_outer(const float* weight, int64_t weight_stride, const float* x, int64_t lanes, float* gradient,
                           int64_t n) {
  for (int64_t d = 0; d < lanes; d += kLanes) {
    Floats row[kGroup];
    for (int64_t r = 0; r < kGroup; ++r) row[r] = load(x + r * lanes + d);
    for (int64_t j = 0; j < n; ++j) {
      Floats total = load(gradient + j * lanes + d);
      for (int64_t r = 0; r < kGroup; ++r) total += weight[r * weight_stride + j] * row[r];
      store(gradient + j * lanes + d, total);
    }
  }
}

/// Where a head's vectors are.
struct HeadView {
  int64_t token_stride;  // of qkv
  const float* query;
  const float* key;
  const float* value;
};

GATO_INLINE HeadView head_view(const AttentionShape& shape, int64_t row, int64_t head, const float* qkv) {
  const int64_t width = shape.heads * shape.head_dim;
  const float* base = qkv + row * shape.tokens * 3 * width + head * shape.head_dim;
  return {3 * width, base, base + width, base + 2 * width};
}

int64_t sequence_end(const int32_t* starts, int64_t tokens, int64_t begin) {
  int64_t end = begin + 1;
  while (end < tokens && starts[end] == begin) ++end;
  return end;
}

GATO_INLINE void forward_sequence(const AttentionShape& shape, const HeadView& view, int64_t begin, int64_t length,
                                  float* out, int64_t out_stride, float* log_sum) {
  const Buffers b = make_buffers(length, shape.head_dim, false);
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
  const auto bytes = static_cast<size_t>(shape.head_dim) * sizeof(float);
  for (int64_t i = 0; i < length; ++i) {
    const int64_t at = (begin + i) * view.token_stride;
    rotate(shape, i, false, scale, view.query + at, b.query + i * b.lanes);
    rotate(shape, i, false, 1, view.key + at, b.vector);
    transpose_into(b.vector, shape.head_dim, b.key_t, b.columns, i);
    std::memcpy(b.value + i * b.lanes, view.value + at, bytes);
  }
  for (int64_t first = 0; first < length; first += kGroup) {
    const int64_t keys = first + kGroup < length ? first + kGroup : length;
    const int64_t n = round_up(keys, kLanes);
    float group_log_sum[kGroup];
    causal_scores(b.query + first * b.lanes, b.lanes, b.key_t, b.columns, shape.head_dim, first, n, b.score, b.columns);
    softmax_group(b.score, b.columns, n, group_log_sum);
    // The queries of this group have served: their place takes the result.
    multiply<kGroup>(b.score, b.columns, b.value, b.lanes, b.query + first * b.lanes, b.lanes, keys, b.lanes);
    for (int64_t i = first; i < keys; ++i) {
      std::memcpy(out + (begin + i) * out_stride, b.query + i * b.lanes, bytes);
      log_sum[begin + i] = group_log_sum[i - first];
    }
  }
}

/// Fills the buffers of a sequence for backward.
GATO_INLINE void gather_backward(const AttentionShape& shape, const HeadView& view, int64_t begin, float scale,
                                 const float* out_gradient, int64_t out_stride, const Buffers& b) {
  const auto bytes = static_cast<size_t>(shape.head_dim) * sizeof(float);
  for (int64_t i = 0; i < b.length; ++i) {
    const int64_t at = (begin + i) * view.token_stride;
    rotate(shape, i, false, scale, view.query + at, b.query + i * b.lanes);
    rotate(shape, i, false, 1, view.key + at, b.key + i * b.lanes);
    transpose_into(b.key + i * b.lanes, shape.head_dim, b.key_t, b.columns, i);
    std::memcpy(b.value + i * b.lanes, view.value + at, bytes);
    transpose_into(view.value + at, shape.head_dim, b.value_t, b.columns, i);
    std::memcpy(b.out_gradient + i * b.lanes, out_gradient + (begin + i) * out_stride, bytes);
  }
}

/// Gradients of one group of queries: writes its rows of query_gradient, adds to key_gradient and value_gradient.
GATO_INLINE void backward_group(const AttentionShape& shape, const Buffers& b, int64_t first, const float* log_sum) {
  const int64_t keys = first + kGroup < b.length ? first + kGroup : b.length;
  const int64_t n = round_up(keys, kLanes);
  const float* query = b.query + first * b.lanes;
  const float* out_gradient = b.out_gradient + first * b.lanes;
  causal_scores(query, b.lanes, b.key_t, b.columns, shape.head_dim, first, n, b.score, b.columns);
  multiply<kGroup>(out_gradient, b.lanes, b.value_t, b.columns, b.score_gradient, b.columns, shape.head_dim, n);
  for (int64_t r = 0; r < kGroup; ++r) {
    float* p = b.score + r * b.columns;
    float* dp = b.score_gradient + r * b.columns;
    // Rows behind the sequence's end are zeros in out_gradient and query, so that any finite weights do.
    exponentials(p, n, first + r < b.length ? log_sum[first + r] : maximum(p, n));
    Floats product{};
    for (int64_t j = 0; j < n; j += kLanes) product += load(p + j) * load(dp + j);
    const float mean = sum(product);
    for (int64_t j = 0; j < n; j += kLanes) store(dp + j, load(p + j) * (load(dp + j) - mean));
  }
  multiply<kGroup>(b.score_gradient, b.columns, b.key, b.lanes, b.query_gradient + first * b.lanes, b.lanes, keys,
                   b.lanes);
  add_outer(b.score_gradient, b.columns, query, b.lanes, b.key_gradient, keys);
  add_outer(b.score, b.columns, out_gradient, b.lanes, b.value_gradient, keys);
}

}  // namespace

GATO_MULTIVERSION void attention_forward(const AttentionShape& shape, int64_t row, int64_t head, const float* qkv,
                                         const int32_t* starts, float* out, float* log_sum) {
  const HeadView view = head_view(shape, row, head, qkv);
  const int32_t* row_starts = starts + row * shape.tokens;
  const int64_t width = shape.heads * shape.head_dim;
  float* head_out = out + row * shape.tokens * width + head * shape.head_dim;
  float* head_log_sum = log_sum + (row * shape.heads + head) * shape.tokens;
  for (int64_t begin = 0; begin < shape.tokens;) {
    const int64_t end = sequence_end(row_starts, shape.tokens, begin);
    forward_sequence(shape, view, begin, end - begin, head_out, width, head_log_sum);
    begin = end;
  }
}

GATO_MULTIVERSION void attention_backward(const AttentionShape& shape, int64_t row, int64_t head, const float* qkv,
                                          const int32_t* starts, const float* log_sum, const float* out_gradient,
                                          float* qkv_gradient) {
  const HeadView view = head_view(shape, row, head, qkv);
  const int64_t width = shape.heads * shape.head_dim;
  const int32_t* row_starts = starts + row * shape.tokens;
  const float* head_out_gradient = out_gradient + row * shape.tokens * width + head * shape.head_dim;
  const float* head_log_sum = log_sum + (row * shape.heads + head) * shape.tokens;
  float* query_out = qkv_gradient + (view.query - qkv);
  float* key_out = qkv_gradient + (view.key - qkv);
  float* value_out = qkv_gradient + (view.value - qkv);
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
  const auto bytes = static_cast<size_t>(shape.head_dim) * sizeof(float);
  for (int64_t begin = 0; begin < shape.tokens;) {
    const int64_t end = sequence_end(row_starts, shape.tokens, begin);
    const Buffers b = make_buffers(end - begin, shape.head_dim, true);
    gather_backward(shape, view, begin, scale, head_out_gradient, width, b);
    for (int64_t first = 0; first < b.length; first += kGroup) backward_group(shape, b, first, head_log_sum + begin);
    for (int64_t i = 0; i < b.length; ++i) {
      const int64_t at = (begin + i) * view.token_stride;
      rotate(shape, i, true, scale, b.query_gradient + i * b.lanes, query_out + at);
      rotate(shape, i, true, 1, b.key_gradient + i * b.lanes, key_out + at);
      std::memcpy(value_out + at, b.value_gradient + i * b.lanes, bytes);
    }
    begin = end;
  }
}

GATO_MULTIVERSION void attention_cached(const AttentionShape& shape, const CacheView& cache, int64_t slot, int64_t head,
                                        int64_t position, int64_t count, const float* qkv, float* out) {
  const int64_t width = shape.heads * shape.head_dim;
  const auto bytes = static_cast<size_t>(shape.head_dim) * sizeof(float);
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim));
  const float* query = qkv + head * shape.head_dim;
  float* keys_t = cache.keys + (slot * shape.heads + head) * shape.head_dim * cache.capacity;
  float* values = cache.values + (slot * shape.heads + head) * cache.capacity * cache.lanes;
  const int64_t columns = round_up(position + count, kLanes);
  float* memory = thread_scratch().reserve(kGroup * (columns + 2 * cache.lanes));
  float* score = memory;
  float* queries = score + kGroup * columns;
  float* result = queries + kGroup * cache.lanes;
  for (int64_t i = 0; i < count; ++i) {
    const float* token = query + i * 3 * width;
    rotate(shape, position + i, false, 1, token + width, result);
    transpose_into(result, shape.head_dim, keys_t, cache.capacity, position + i);
    std::memcpy(values + (position + i) * cache.lanes, token + 2 * width, bytes);
  }
  for (int64_t first = 0; first < count; first += kGroup) {
    const int64_t rows = count - first < kGroup ? count - first : kGroup;
    const int64_t keys = position + first + rows;
    const int64_t n = round_up(keys, kLanes);
    std::memset(queries, 0, static_cast<size_t>(kGroup * cache.lanes) * sizeof(float));
    for (int64_t r = 0; r < rows; ++r) {
      rotate(shape, position + first + r, false, scale, query + (first + r) * 3 * width, queries + r * cache.lanes);
    }
    float log_sum[kGroup];
    if (rows == 1) {
      multiply<1>(queries, cache.lanes, keys_t, cache.capacity, score, columns, shape.head_dim, n);
      for (int64_t j = keys; j < n; ++j) score[j] = kMasked;
      const float total = exponentials(score, n, maximum(score, n));
      multiply<1>(score, columns, values, cache.lanes, result, cache.lanes, keys, cache.lanes);
      for (int64_t d = 0; d < cache.lanes; ++d) result[d] *= 1.0f / total;
    } else {
      causal_scores(queries, cache.lanes, keys_t, cache.capacity, shape.head_dim, position + first, n, score, columns);
      softmax_group(score, columns, n, log_sum);
      multiply<kGroup>(score, columns, values, cache.lanes, result, cache.lanes, keys, cache.lanes);
    }
    for (int64_t r = 0; r < rows; ++r) {
      std::memcpy(out + (first + r) * width + head * shape.head_dim, result + r * cache.lanes, bytes);
    }
  }
}

}  // namespace gato::kernels::cpu
