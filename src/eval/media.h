#pragma once
#include <string>
#include <vector>

#include "gato/core/file.h"
#include "gato/episode/image.h"

/// Pictures that an evaluation leaves for its report, in `<results>/media/` (docs/formats/scores.md).
namespace gato::eval {

/// One picture file: frames laid out in a grid, row by row. One frame for a still picture.
struct MediaItem {
  std::string task;
  std::string file;  ///< Relative to the results folder, PNG.
  int64_t frames = 1, columns = 1;
  int64_t frame_width = 0, frame_height = 0;
  uint64_t seed = 0;              ///< Of the rollout.
  std::string answer, reference;  ///< For tasks judged by exact match.
  bool exact_match = false;
  bool operator==(const MediaItem&) const = default;
};

/// Writes the frames (all of one size, at least one) as one grid picture below `results` and returns its description.
[[nodiscard]] MediaItem write_frames(const Path& results, const std::string& task, int64_t number,
                                     const std::vector<episode::Image>& frames);

/// `<results>/media/<task with / as ->.json`: the items of one task. Reading is strict; a missing file gives none.
void write_media(const Path& results, const std::string& task, const std::vector<MediaItem>& items);
[[nodiscard]] std::vector<MediaItem> read_media(const Path& results, const std::string& task);

}  // namespace gato::eval
