#pragma once
#include <string>
#include <vector>

#include "gato/episode/image.h"

namespace gato::eval {

/// The frames (at least one, all of one size of at most 65535) as an animated GIF89a that repeats for ever, each shown
/// for `centiseconds`, the last one for `last_centiseconds` (0: as the others). Up to 256 colours are exact; where
/// there are more they are rounded to a fixed table of 252. Frames are enlarged by the whole number `scale`. Of each
/// frame only the rectangle that changed is stored.
[[nodiscard]] std::string encode_gif(const std::vector<episode::Image>& frames, int centiseconds, int scale = 1,
                                     int last_centiseconds = 0);

}  // namespace gato::eval
