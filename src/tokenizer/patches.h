#pragma once
#include <cstdint>

#include "gato/episode/image.h"
#include "gato/tokenizer/sequence.h"

namespace gato::tokenizer::detail {

/// Patches that cover `pixels` pixels of a side: the last one may be padded.
constexpr int64_t patches_along(int64_t pixels) { return (pixels + kPatchSide - 1) / kPatchSide; }

/// Writes the patches of a well-formed image in raster order: kPatchBytes each to `bytes`, padded right and bottom with
/// zeros, and one position each to `positions`.
void cut_patches(const episode::Image& image, uint8_t* bytes, PatchPosition* positions);

}  // namespace gato::tokenizer::detail
