#pragma once
// Host-side checks of the attention operations' arguments and their dispatch by element type and head dimension.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "gato/core/error.h"
#include "kernels/cuda/attention.h"

namespace gato::kernels::cuda {

inline void check_attention_shape(const AttentionShape& shape, const char* operation) {
  constexpr int64_t kMostBlocks = 65535;  // of a grid's second and third extent
  GATO_CHECK(shape.element == Element::kBFloat16 || shape.element == Element::kFloat16, operation,
             ": the elements are ", element_name(shape.element), ", expected bfloat16 or float16");
  GATO_CHECK(shape.head_dim == 32 || shape.head_dim == 64 || shape.head_dim == 128, operation,
             ": the head dimension is ", shape.head_dim, ", expected 32, 64 or 128");
  GATO_CHECK(shape.rows >= 0 && shape.rows <= kMostBlocks && shape.heads >= 0 && shape.heads <= kMostBlocks, operation,
             ": ", shape.rows, " rows and ", shape.heads, " heads, expected 0 to ", kMostBlocks, " of each");
  GATO_CHECK(shape.tokens >= 0 && shape.tokens <= std::numeric_limits<int32_t>::max() / 128, operation, ": ",
             shape.tokens, " tokens, expected 0 to ", std::numeric_limits<int32_t>::max() / 128);
}

[[nodiscard]] inline bool has_no_elements(const AttentionShape& shape) {
  return shape.rows == 0 || shape.tokens == 0 || shape.heads == 0;
}

inline void check_device_pointer(const void* data, size_t alignment, const char* operation, const char* name) {
  GATO_CHECK(data != nullptr, operation, ": ", name, " is null");
  GATO_CHECK(reinterpret_cast<uintptr_t>(data) % alignment == 0, operation, ": ", name, " is not ", alignment,
             "-byte aligned");
}

template <class Pointer>
void check_heads_view(const HeadsViewOf<Pointer>& view, int64_t tokens, const char* operation, const char* name) {
  check_device_pointer(view.data, 16, operation, name);
  GATO_CHECK(view.row_stride % 8 == 0 && view.token_stride % 8 == 0 && view.head_stride % 8 == 0, operation,
             ": strides of ", name, " are ", view.row_stride, ", ", view.token_stride, ", ", view.head_stride,
             ", expected multiples of 8 elements");
  GATO_CHECK(
      view.token_stride >= 0 && tokens <= std::numeric_limits<int32_t>::max() / std::max<int64_t>(view.token_stride, 1),
      operation, ": a row of ", name, " has ", tokens, " tokens ", view.token_stride,
      " elements apart, expected less than 2^31 elements in all");
}

inline void check_rotary_view(const RotaryView& rotary, const char* operation) {
  if (rotary.cosine == nullptr && rotary.sine == nullptr) return;
  check_device_pointer(rotary.cosine, 16, operation, "rotary.cosine");
  check_device_pointer(rotary.sine, 16, operation, "rotary.sine");
  GATO_CHECK(rotary.positions > 0 && rotary.positions <= std::numeric_limits<int32_t>::max() / 64, operation,
             ": a rotary table of ", rotary.positions, " positions");
}

/// Scores become powers of two: exp(x / sqrt(head_dim)) = exp2(x * log2_scale(head_dim)).
[[nodiscard]] inline float log2_scale(int64_t head_dim) {
  constexpr double kLog2E = 1.4426950408889634;
  return static_cast<float>(kLog2E / std::sqrt(static_cast<double>(head_dim)));
}

template <int kValue>
struct HeadDim {
  static constexpr int value = kValue;
};

/// body(HeadDim<32>{}), ... for a head dimension that was checked.
template <class Body>
void with_head_dim(int64_t head_dim, Body body) {
  if (head_dim == 32) return body(HeadDim<32>{});
  if (head_dim == 64) return body(HeadDim<64>{});
  body(HeadDim<128>{});
}

}  // namespace gato::kernels::cuda
