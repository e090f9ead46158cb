#pragma once
#include "gato/kernels/attention.h"
#include "gato/kernels/attention_route.h"

namespace gato::kernels {

/// Whether attention of `qkv` [B, T, 3, H, D] over a device's cache goes by our kernels, where they take it: asked for
/// (kOwn), or proven (kAuto).
[[nodiscard]] bool cache_by_own_kernels(const at::Tensor& qkv);

/// document_attention by `route`: kFlash, kCudnn or kReference.
[[nodiscard]] at::Tensor attend_by_library(AttentionRoute route, const at::Tensor& qkv,
                                           const at::Tensor& sequence_start, const RotaryTable& rotary,
                                           const SequenceBounds& bounds);

}  // namespace gato::kernels
