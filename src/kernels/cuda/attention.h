#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/cuda/types.h"  // Element, Stream

// Causal softmax attention inside the sequences of a row, on tensor cores (compute capability 8.0 and up): the device's
// form of kernels::document_attention. docs/attention_kernels.md says how it works.
namespace gato::kernels::cuda {

/// One of queries, keys, values, results or their gradients: the head's vector of token t of row b begins at element
/// b * row_stride + t * token_stride + h * head_stride. `data` is 16-byte aligned, strides are multiples of 8 elements
/// and tokens * token_stride is below 2^31.
template <class Pointer>
struct HeadsViewOf {
  Pointer data = nullptr;
  int64_t row_stride = 0, token_stride = 0, head_stride = 0;
};
using HeadsView = HeadsViewOf<const void*>;
using MutableHeadsView = HeadsViewOf<void*>;

/// Sizes of [rows, tokens, heads, head_dim]. `head_dim` is 32, 64 or 128; `element` kBFloat16 or kFloat16. Rows and
/// heads are at most 65535. Any of rows, tokens and heads may be 0: then nothing is launched.
struct AttentionShape {
  int64_t rows = 0, tokens = 0, heads = 0, head_dim = 0;
  Element element = Element::kBFloat16;
};

/// Where [rows, tokens, heads, head_dim] is when it is contiguous.
template <class Pointer>
[[nodiscard]] constexpr HeadsViewOf<Pointer> contiguous_heads(Pointer data, const AttentionShape& shape) {
  const int64_t width = shape.heads * shape.head_dim;
  return {data, shape.tokens * width, width, shape.head_dim};
}

/// Part 0 (queries), 1 (keys) or 2 (values) of a contiguous `qkv` [rows, tokens, 3, heads, head_dim].
[[nodiscard]] inline MutableHeadsView packed_heads(void* qkv, const AttentionShape& shape, int part) {
  const int64_t width = shape.heads * shape.head_dim;
  const int64_t offset = part * width * static_cast<int64_t>(element_bytes(shape.element));
  return {static_cast<char*>(qkv) + offset, shape.tokens * 3 * width, 3 * width, shape.head_dim};
}
[[nodiscard]] inline HeadsView packed_heads(const void* qkv, const AttentionShape& shape, int part) {
  const MutableHeadsView view = packed_heads(const_cast<void*>(qkv), shape, part);
  return {view.data, view.row_stride, view.token_stride, view.head_stride};
}

/// Sines and cosines of kernels::RotaryTable, [positions, head_dim / 2] each, 16-byte aligned; null for no rotation.
/// Token t is rotated by its index inside its sequence. A table shorter than the longest sequence is a caller's mistake
/// that the device cannot report: the last position then stands for those that miss.
struct RotaryView {
  const float* cosine = nullptr;
  const float* sine = nullptr;
  int64_t positions = 0;
};

/// Arguments of attention_forward. All pointers are to device memory.
struct AttentionForward {
  AttentionShape shape;
  HeadsView query, key, value;
  /// [rows, tokens]: the offset in the row where the token's sequence starts. A token attends to [start, itself]. A
  /// start behind the token means that it sees nothing: its result is zero, its log-sum-exp minus infinity and its
  /// gradients are zero. Negative starts count as 0; no value leads outside the buffers.
  const int32_t* sequence_start = nullptr;
  RotaryView rotary;
  MutableHeadsView out;
  float* log_sum_exp = nullptr;  ///< [rows, heads, tokens]; written.
};

/// out = softmax(rotated query x rotated key^T / sqrt(head_dim), masked) x value, sums in fp32. Throws ContractError
/// for a call that breaks what is said above, DeviceError when a launch is refused. Puts its work on `stream` and
/// returns; allocates nothing, waits for nothing. Equal calls give equal bits.
void attention_forward(const AttentionForward& call, Stream stream);

/// Arguments of attention_backward: the tensors of forward as they were, and the gradient of `out`.
struct AttentionBackward {
  AttentionShape shape;
  HeadsView query, key, value;
  const int32_t* sequence_start = nullptr;
  RotaryView rotary;
  HeadsView out;                       ///< As forward wrote it.
  const float* log_sum_exp = nullptr;  ///< As forward wrote it.
  HeadsView out_gradient;
  MutableHeadsView query_gradient, key_gradient, value_gradient;  ///< Written whole; may be parts of one packed tensor.
  void* workspace = nullptr;  ///< attention_backward_workspace() bytes of device memory, 16-byte aligned.
};

/// Bytes of scratch memory that attention_backward needs for a shape. Throws ContractError for a wrong shape.
[[nodiscard]] size_t attention_backward_workspace(const AttentionShape& shape);

/// Gradients of queries, keys and values. No atomics: equal calls give equal bits. Errors and promises as for
/// attention_forward.
void attention_backward(const AttentionBackward& call, Stream stream);

}  // namespace gato::kernels::cuda
