#pragma once
#include <vector>

#include "gato/core/file.h"
#include "gato/episode/image.h"

namespace gato::eval {

/// Whether the program ffmpeg is in PATH.
[[nodiscard]] bool can_make_films();

/// Writes the frames (at least one, all of one size) as an MP4 that every browser plays (H.264, 4:2:0, sides enlarged
/// by the whole number `scale` and to even numbers) with the program ffmpeg. False, and no file, when it fails: the
/// reason is in a warning.
bool write_film(const Path& path, const std::vector<episode::Image>& frames, int frames_per_second, int scale);

}  // namespace gato::eval
