#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "gato/episode/shard.h"

/// Shards and token columns as a person wants to see them, and their verification: `gato-data inspect` and `verify`.
namespace gato::episode {

/// What describe_shard shows.
struct InspectOptions {
  int64_t episode =
      0;  ///< The episode whose first steps are shown; negative: none. ConfigError when there is no such one.
  int64_t steps = 3;               ///< How many of its steps.
  int64_t max_values = 12;         ///< Numbers shown per value.
  int64_t max_text_bytes = 240;    ///< Bytes shown per text.
  int64_t thumbnail_columns = 32;  ///< Width of pictures in characters, at most; 0: no pictures.
  bool color = false;              ///< 24-bit ANSI colours with half blocks; else ASCII shades.
};

/// Data set, tasks with fields, shapes, bounds and reference scores, counts, returns, success, size of every column,
/// and the first steps of one episode. Lines end in '\n'; control characters of stored texts are escaped. DataError on
/// damage.
[[nodiscard]] std::string describe_shard(const ShardReader& shard, const InspectOptions& options = {});

/// Tokenizer, and token counts per task and field, of the token columns of `shard`.
[[nodiscard]] std::string describe_token_columns(const TokenColumnsReader& tokens, const ShardReader& shard);

/// Fields of one step of `window` (step 0 is its first), a line each: observation, action, label, reward. `number` is
/// the step's number for people.
[[nodiscard]] std::string describe_step(const TaskSpec& task, const Episode& window, int64_t step, int64_t number,
                                        const InspectOptions& options);

/// `image` as text of at most `columns` characters per line: shades of grey in ASCII or, with `color`, pairs of pixels
/// as half blocks with 24-bit ANSI colours. Lines end in '\n'.
[[nodiscard]] std::string draw_image(const Image& image, int64_t columns, bool color);

struct VerifyOptions {
  bool contents = false;  ///< Also decode every value and check it against its task; slow for images.
};

/// Checks every byte of a shard and of the token columns beside it, if there are any, and that these were made for this
/// version of the shard. One sentence per damage, naming file and offset; empty: all is well. IoError when unreadable.
[[nodiscard]] std::vector<std::string> verify_files(const Path& shard, const VerifyOptions& options = {});

}  // namespace gato::episode
