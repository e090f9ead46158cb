#pragma once
#include "gato/kernels/parameter.h"

namespace gato::kernels {

constexpr int64_t kPatchSide = 16;  ///< Pixels along each side of a patch.
constexpr int64_t kPatchCells = 4;  ///< Cells along each side that average pooling leaves.

/// Parameters of the patch embedder for Ch channels and width C: docs/design.md, section "Model".
struct PatchEmbedderParameters {
  Parameter stem, stem_bias;                          ///< [Ch, 3, 3, 3], [Ch].
  Parameter gain_1, offset_1, convolution_1, bias_1;  ///< [Ch], [Ch], [Ch, Ch, 3, 3], [Ch].
  Parameter gain_2, offset_2, convolution_2, bias_2;
  Parameter output, output_bias;  ///< [C, Ch x 16] (cells in raster order, channels inside a cell), [C].
};

/// Vectors [M, C] of `patches` uint8 [M, 16, 16, 3]: pixels p become (p / 127.5 - 1) / 4; a 3 x 3 convolution; one
/// pre-activation residual block of (GroupNorm with `groups` groups, GELU, 3 x 3 convolution) twice; average pooling to
/// 4 x 4; a linear map. The first convolution has stride `stride`, 1 or 2.
[[nodiscard]] at::Tensor embed_patches(const at::Tensor& patches, const PatchEmbedderParameters& parameters,
                                       int64_t groups, int64_t stride);

}  // namespace gato::kernels
