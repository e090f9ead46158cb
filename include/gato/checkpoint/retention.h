#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "gato/checkpoint/checkpoint.h"

/// Which checkpoints of a run are kept.
namespace gato::checkpoint {

/// A checkpoint is kept when any of these keeps it. Pinned ones (read_pins) always are, as are the newest two that are
/// valid and every one that is damaged.
struct Retention {
  int64_t keep_last = 2;                  ///< The newest valid ones; fewer than 2 counts as 2.
  int64_t keep_every = 0;                 ///< Every step divisible by this; 0: none.
  int64_t keep_best = 0;                  ///< As many with the highest `scores`, of equals the newest.
  std::map<int64_t, double> scores = {};  ///< By step, higher is better; steps without one are not among the best.
  /// Steps that somebody is about to read, such as an evaluation job; asked again before every deletion. May be empty.
  std::function<std::set<int64_t>()> in_use = {};
};

/// What becomes of one checkpoint, and why.
struct RetentionDecision {
  CheckpointInfo checkpoint;
  bool keep = true;
  std::string reason;  ///< "newest", "step divisible by 1000", "best score 71.2", "pinned", "in use", "damaged: ...".
};

/// The decision about every checkpoint in `folder`, by falling step; changes nothing. The newest two valid ones are
/// established by reading them to `depth`, the others by their sizes.
[[nodiscard]] std::vector<RetentionDecision> plan_retention(const Path& folder, const Retention& retention,
                                                            VerifyDepth depth = VerifyDepth::kContent);

/// Deletes what plan_retention() does not keep, oldest first, and returns it. Pins and `in_use` are asked again before
/// every deletion. DataError, and nothing is deleted, when the pins cannot be read.
std::vector<CheckpointInfo> prune(const Path& folder, const Retention& retention,
                                  VerifyDepth depth = VerifyDepth::kContent);

/// Pinned checkpoints are listed in the file `pinned` among the checkpoints, one name such as step-00001000 per line; a
/// line may be blank or begin with '#'.
inline constexpr const char* kPinsName = "pinned";

/// Steps that are pinned. DataError naming file and line for anything else in the list. A missing file pins none.
[[nodiscard]] std::set<int64_t> read_pins(const Path& folder);
/// The same from the list's text.
[[nodiscard]] std::set<int64_t> parse_pins(std::string_view text, const std::string& origin);
/// Adds a step to the list, or takes it from it; returns whether that changed anything. pin() throws ConfigError when
/// there is no such checkpoint, also when it was deleted meanwhile.
bool pin(const Path& folder, int64_t step);
bool unpin(const Path& folder, int64_t step);

}  // namespace gato::checkpoint
