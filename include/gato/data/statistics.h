#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "gato/core/file.h"
#include "gato/episode/shard.h"

/// What the values of data sets are like, so that a look tells whether they fit their specification, and so that a
/// checkpoint knows what its model was trained on.
namespace gato::data {

/// The values of one field. What is counted depends on the modality: numbers (continuous, discrete), texts by their
/// length in tokens (in bytes where there are no token columns), images by their encoded bytes.
struct FieldStatistics {
  episode::Group group = episode::Group::kObservation;
  std::string name;
  episode::Modality modality = episode::Modality::kContinuous;
  std::string unit;  ///< "value", "tokens" or "bytes".
  int64_t count = 0;
  double minimum = 0, maximum = 0;  ///< 0 while count is 0.
  double mean = 0;
  double squares = 0;   ///< Sum of squared distances from the mean.
  int64_t outside = 0;  ///< Continuous fields with declared bounds: values outside them.
  /// Continuous: values in each of the 1024 bins that the tokenizer makes of them. Discrete: of each value. Lengths:
  /// entry 0 counts zeros, entry k the lengths in [2^(k-1), 2^k).
  std::vector<int64_t> counts;

  [[nodiscard]] double deviation() const;      ///< Standard deviation.
  [[nodiscard]] double outside_share() const;  ///< In [0, 1].
  bool operator==(const FieldStatistics&) const = default;
};

/// All fields of one task, in the order (observation, action, label) of its specification; labels only where there are.
struct TaskStatistics {
  std::string task;
  int64_t episodes = 0, steps = 0;
  std::vector<FieldStatistics> fields;
  bool operator==(const TaskStatistics&) const = default;
};

/// Adds the values of `other`, as if one pass had seen both. Throws DataError when they are of different fields, or
/// count texts in different units.
void merge_statistics(TaskStatistics& into, const TaskStatistics& other);

/// The statistics of one shard, stored beside it as JSON (`<shard>.stats`, docs/formats/statistics.md).
struct ShardStatistics {
  std::string fingerprint;  ///< Of the shard.
  std::string tokenizer;    ///< Digest of the text tokenizer that lengths are counted with; "" where bytes are.
  std::vector<TaskStatistics> tasks;
  bool operator==(const ShardStatistics&) const = default;
};

[[nodiscard]] Path statistics_path(const Path& shard);

/// One pass over a shard. `tokens` may be null. Throws DataError for damage and for continuous values that are NaN.
[[nodiscard]] ShardStatistics compute_statistics(const episode::ShardReader& shard,
                                                 const episode::TokenColumnsReader* tokens);

/// The stored statistics of a shard if they belong to it and to the token columns beside it, else new ones, which are
/// stored. Token columns of another version of the shard are passed over.
struct StoredStatistics {
  ShardStatistics statistics;
  bool reused = false;
};
[[nodiscard]] StoredStatistics statistics_of(const Path& shard);

using StatisticsByTask = std::map<std::string, TaskStatistics>;

/// Of all tasks in some shards, on the thread budget. Of a damaged shard, what can be read is counted, a warning says
/// how much is missing, and nothing is stored: a run with a quarantine list must not end for its statistics.
[[nodiscard]] StatisticsByTask statistics_of_shards(const std::vector<Path>& shards);

/// JSON and back. Parsing throws DataError naming `origin` and the key.
[[nodiscard]] std::string shard_statistics_json(const ShardStatistics& statistics);
[[nodiscard]] ShardStatistics parse_shard_statistics(std::string_view json, const std::string& origin);
[[nodiscard]] std::string statistics_json(const StatisticsByTask& statistics);
[[nodiscard]] StatisticsByTask parse_statistics(std::string_view json, const std::string& origin);

/// For people: a line per field with range, mean, share outside the bounds and a small histogram.
[[nodiscard]] std::string describe_statistics(const TaskStatistics& statistics);

/// `counts` as at most `width` characters of eight heights: neighbouring counts are summed, and whatever is not 0 is
/// seen.
[[nodiscard]] std::string histogram_bars(const std::vector<int64_t>& counts, int64_t width);

}  // namespace gato::data
