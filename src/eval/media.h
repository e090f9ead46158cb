#pragma once
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gato/core/file.h"
#include "gato/episode/image.h"

/// Pictures that an evaluation leaves for its report, in `<results>/media/` (docs/formats/scores.md).
namespace gato::eval {

/// One rollout that is shown: what was seen, as one picture file of frames laid out in a grid, row by row (one frame
/// for a still picture), and what was said.
struct MediaItem {
  std::string task;
  std::string file;  ///< Relative to the results folder, PNG; "" where there is nothing to see.
  int64_t frames = 1, columns = 1;
  int64_t frame_width = 0, frame_height = 0;
  uint64_t seed = 0;  ///< Of the rollout.
  /// Why it is shown: any of "first", "best" and "worst" with ", " between them; "" for the examples of tasks judged by
  /// exact match and of texts.
  std::string kind;
  std::string question;           ///< Texts that were seen; of a text the beginning that was given.
  std::string answer, reference;  ///< For tasks judged by exact match; of a text how each went on.
  bool exact_match = false;
  double episode_return = 0;
  int64_t length = 0;  ///< Steps.
  std::optional<bool> success;
  bool operator==(const MediaItem&) const = default;
};

/// Writes the frames (all of one size, at least one) as one grid picture below `results`, named by task, `shard` and
/// `number`, and says in `item` where they are. Frames beyond what fits into a picture are left out.
void write_frames(const Path& results, int64_t shard, int64_t number, const std::vector<episode::Image>& frames,
                  MediaItem& item);
/// The frames of an item; none where it has no file. DataError naming the file when it is damaged or is not what the
/// item says.
[[nodiscard]] std::vector<episode::Image> read_frames(const Path& results, const MediaItem& item);

/// `<results>/media/<task with / as ->.shard-K.json`: what is shown of a shard's rollouts.
void write_media(const Path& results, const std::string& task, int64_t shard, const std::vector<MediaItem>& items);
/// The items of all tasks in `results`, those of a task together: of its shards the first, the best and the worst, and
/// at most `most_examples` others. Reading is strict (DataError naming file and key); a missing folder gives none.
[[nodiscard]] std::map<std::string, std::vector<MediaItem>> read_media(const Path& results, size_t most_examples = 8);

}  // namespace gato::eval
