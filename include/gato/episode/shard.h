#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "gato/core/error.h"
#include "gato/core/file.h"
#include "gato/episode/episode.h"

/// Shard files (`.gato`): docs/formats/shard.md.
namespace gato::episode {

/// A damaged place of a file: the message is "PATH, offset N: PROBLEM".
class DamageError : public DataError {
 public:
  DamageError(const Path& path, uint64_t offset, const std::string& problem)
      : DataError(cat(path.string(), ", offset ", offset, ": ", problem)), path_(path), offset_(offset) {}
  [[nodiscard]] const Path& path() const { return path_; }
  [[nodiscard]] uint64_t offset() const { return offset_; }

 private:
  Path path_;
  uint64_t offset_;
};

/// What a data set says about itself in every shard's footer.
struct DatasetInfo {
  std::string name;  ///< Its id: randomness is keyed by it, so renaming a data set changes the order of its samples.
  std::string description;
  std::string licence;
  std::string created_by;  ///< Program, version and arguments.
};

/// One row of the fixed-width, memory-mapped episode index.
struct EpisodeIndexEntry {
  uint64_t split_hash;  ///< split_hash(id).
  uint64_t first_step;  ///< In the columns of its task.
  uint64_t seed;
  uint32_t num_steps;
  uint32_t task;  ///< Index into tasks().
  float total_return;
  uint32_t source_agent;  ///< Index into source_agents().
  uint32_t flags;         ///< EpisodeFlags.
  uint32_t reserved;      ///< 0.
};
static_assert(sizeof(EpisodeIndexEntry) == 48);

enum EpisodeFlags : uint32_t {
  kEpisodeTerminated = 1,
  kEpisodeTruncated = 2,
  kEpisodeHasSuccess = 4,
  kEpisodeSuccess = 8,
  kEpisodeHasReward = 16,  ///< Episode::reward is not empty.
  kEpisodeHasLabel = 32,   ///< Episode::label is not empty.
};

/// Writes one shard front to back. Nothing appears under the final name before finish().
class ShardWriter {
 public:
  /// `tasks` are checked (check_task_spec). Throws IoError when the file cannot be made.
  ShardWriter(const Path& path, DatasetInfo info, std::vector<TaskSpec> tasks);
  ~ShardWriter();
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;

  void add(int task, const Episode& episode);  ///< Checks it (check_episode), then buffers its columns.
  [[nodiscard]] int64_t num_episodes() const;
  [[nodiscard]] uint64_t bytes() const;  ///< Bytes of column data so far.
  void finish();                         ///< Writes columns, index and footer, and commits. Call once.

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// One damaged place found by ShardReader::verify.
struct ShardDamage {
  uint64_t offset;      ///< In the file, of the block.
  std::string message;  ///< Names file, offset and what is damaged.
};

/// What one column takes in a shard, for people.
struct ColumnSize {
  std::string name;  ///< "control/cartpole observation/angle", "episode index".
  uint64_t rows = 0;
  uint64_t bytes = 0;   ///< Of data and offset table.
  uint64_t offset = 0;  ///< Of the data in the file.
};

enum class Group : uint8_t { kObservation = 0, kAction = 1, kLabel = 2 };

/// Reads a shard of which any window of steps touches its own blocks only. Every 64 KiB block's CRC-32C is checked the
/// first time it is touched. Const and thread-safe. A damaged block is a DamageError. The mapped blocks count against
/// the process's cap (gato/episode/resident.h). Spans and views stay valid as long as the reader.
class ShardReader {
 public:
  /// Throws DataError for a file that is not a complete shard (truncated, unfinished, bad footer), IoError when
  /// unreadable.
  explicit ShardReader(const Path& path);
  ~ShardReader();
  ShardReader(ShardReader&&) noexcept;
  ShardReader& operator=(ShardReader&&) noexcept;

  [[nodiscard]] const Path& path() const;
  [[nodiscard]] const DatasetInfo& info() const;
  [[nodiscard]] const std::vector<TaskSpec>& tasks() const;
  [[nodiscard]] const std::vector<std::string>& source_agents() const;
  [[nodiscard]] std::span<const EpisodeIndexEntry> index() const;
  [[nodiscard]] std::string fingerprint()
      const;  ///< 32 hex digits that change when any content changes (from the footer).

  /// Steps [first_step, first_step + num_steps) of an episode, images decoded; num_steps < 0: to the end.
  [[nodiscard]] Episode read(int64_t episode, int64_t first_step = 0, int64_t num_steps = -1) const;
  [[nodiscard]] std::string episode_id(int64_t episode) const;

  /// Rows of a fixed-size field without copying: steps [first_step, +num_steps) counted in the columns of `task`
  /// (EpisodeIndexEntry::first_step + step). Shape steps x num_elements. For kLabel of a task without labels: the
  /// actions.
  [[nodiscard]] std::span<const float> continuous(int task, Group group, int field, uint64_t first_step,
                                                  uint64_t num_steps) const;
  /// Discrete values are stored as uint16.
  [[nodiscard]] std::span<const uint16_t> discrete(int task, Group group, int field, uint64_t first_step,
                                                   uint64_t num_steps) const;
  /// The bytes of one step's text, or of its encoded image.
  [[nodiscard]] std::string_view text(int task, Group group, int field, uint64_t step) const;
  [[nodiscard]] std::span<const std::byte> encoded_image(int task, Group group, int field, uint64_t step) const;
  /// One step's image; what the decoder refuses is a DamageError as well.
  [[nodiscard]] Image image(int task, Group group, int field, uint64_t step) const;
  [[nodiscard]] bool has_labels(int task) const;
  [[nodiscard]] uint64_t num_steps(int task) const;                   ///< Over all its episodes.
  [[nodiscard]] const std::vector<ColumnSize>& column_sizes() const;  ///< In the order of the file.
  [[nodiscard]] uint64_t file_bytes() const;

  /// Reads everything and lists every damaged block, and where no block is damaged every wrong offset table and split
  /// hash (empty: the file is whole).
  [[nodiscard]] std::vector<ShardDamage> verify() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Per-step token counts and, for text, the tokens themselves, made by one text tokenizer for one shard; stored beside
/// it as
/// `<shard>.tokens` and bound to both by their fingerprints.
struct TokenColumns {
  std::string tokenizer_digest;  ///< Of the SentencePiece model file.
  std::string shard_fingerprint;
  /// One per task: for every text field in the order (observation fields, action fields) of the spec, the offsets of
  /// each step's tokens (steps + 1 entries) into `tokens`.
  struct Field {
    Group group = Group::kObservation;
    int field = 0;
    std::vector<uint64_t> offsets;
    std::vector<uint32_t> tokens;
  };
  std::vector<std::vector<Field>> tasks;
};

[[nodiscard]] Path token_columns_path(const Path& shard);
void write_token_columns(const Path& path, const TokenColumns& columns);

/// Memory-mapped token columns; const and thread-safe, blocks verified on first touch.
class TokenColumnsReader {
 public:
  explicit TokenColumnsReader(const Path& path);  ///< DataError when damaged or truncated.
  ~TokenColumnsReader();
  TokenColumnsReader(TokenColumnsReader&&) noexcept;
  TokenColumnsReader& operator=(TokenColumnsReader&&) noexcept;
  [[nodiscard]] const std::string& tokenizer_digest() const;
  [[nodiscard]] const std::string& shard_fingerprint() const;
  [[nodiscard]] uint64_t file_bytes() const;
  /// The fields that have tokens, in the order of the file.
  struct FieldKey {
    int task = 0;
    Group group = Group::kObservation;
    int field = 0;
    uint64_t num_steps = 0;
    uint64_t num_tokens = 0;
  };
  [[nodiscard]] const std::vector<FieldKey>& fields() const;
  /// Where the tokens of steps [first_step, first_step + num_steps) begin, and where those of the last one end:
  /// num_steps + 1 rising numbers, whose differences are the steps' token counts. Touches no token.
  [[nodiscard]] std::span<const uint64_t> offsets(int task, Group group, int field, uint64_t first_step,
                                                  uint64_t num_steps) const;
  /// Tokens of a text field over consecutive steps, back to back; those of step i of the run are [ends[i] - ends[0],
  /// ends[i + 1] - ends[0]).
  struct Run {
    std::span<const uint64_t> ends;  ///< num_steps + 1 rising numbers.
    std::span<const uint32_t> tokens;
  };
  [[nodiscard]] Run run(int task, Group group, int field, uint64_t first_step, uint64_t num_steps) const;
  /// Tokens of one step's text field.
  [[nodiscard]] std::span<const uint32_t> tokens(int task, Group group, int field, uint64_t step) const;
  [[nodiscard]] std::vector<ShardDamage> verify() const;  ///< As ShardReader::verify.

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// `<folder>/<name with / as ->-00000.gato`.
[[nodiscard]] Path shard_path(const Path& folder, const std::string& dataset_name, size_t number);

/// Writes a data set as a folder of shards (shard_path) of about `shard_bytes` each.
class DatasetWriter {
 public:
  DatasetWriter(const Path& folder, DatasetInfo info, std::vector<TaskSpec> tasks,
                uint64_t shard_bytes = uint64_t{256} << 20, size_t first_shard = 0);
  ~DatasetWriter();
  /// Whether that filled and committed a shard. The first `first_shard` shards are those of an earlier, interrupted
  /// writer and stay.
  bool add(int task, const Episode& episode);
  void finish();                                          ///< Commits the last shard.
  [[nodiscard]] const std::vector<Path>& shards() const;  ///< Committed so far, by this writer.

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The shards of a folder (or one shard file) in name order, temporary files passed over. ConfigError when there are
/// none, and for the folder of an import that was interrupted and not yet run to its end.
[[nodiscard]] std::vector<Path> list_shards(const Path& folder_or_file);

}  // namespace gato::episode
