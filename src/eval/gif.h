#pragma once
#include <string>
#include <vector>

#include "gato/episode/image.h"

namespace gato::eval {

/// The frames (at least one, all of one size of at most 65535) as an animated GIF89a that repeats for ever, each shown
/// for `centiseconds`; colours are rounded to a fixed table of 252. Frames are enlarged by the whole number `scale`.
[[nodiscard]] std::string encode_gif(const std::vector<episode::Image>& frames, int centiseconds, int scale = 1);

}  // namespace gato::eval
