#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gato/core/config.h"
#include "gato/episode/shard.h"

namespace gato::data {

/// Which episodes of the tasks that match a pattern are used. An episode must pass every rule that is set; a task
/// follows the last entry that matches it, and without one all its episodes are used. Rules look at raw returns and
/// successes in the episode index alone, over all episodes of a source (both splits) in the order of its shards.
struct FilterEntry {
  std::string tasks;  ///< Pattern of task ids.
  /// Return of at least this share of the expert's (paper section 3.1: 0.8). The expert's return E is the largest mean
  /// over `window` consecutive episodes. Where E is positive the threshold is share x E, as printed. Where it is not, a
  /// share of it would ask for more than E, so it is measured from a base: threshold = base + share x (E - base), base
  /// being the random agent's return if the task has one below E, else the smallest mean over a window.
  std::optional<double> min_return_share = {};
  std::optional<int64_t> window = {};  ///< W; default min(1000, max(1, N / 10)) of N episodes.
  bool success = false;                ///< Only episodes marked as successful.
  std::optional<double> top_quantile =
      {};  ///< The best episodes: 0.1 keeps the tenth with the highest returns (and ties).
  std::optional<double> min_return = {}, max_return = {};  ///< Bounds of the return, both allowed values.
  bool operator==(const FilterEntry&) const = default;
};
GATO_CONFIG(FilterEntry, GATO_FIELD(tasks, "Pattern of task ids; the last entry that matches a task holds for it."),
            GATO_FIELD(min_return_share, "Keep returns of at least this share of the expert's (paper: 0.8)."),
            GATO_FIELD(window, "Episodes per window of the expert's return; default min(1000, max(1, N / 10))."),
            GATO_FIELD(success, "Keep only episodes marked as successful."),
            GATO_FIELD(top_quantile, "Keep this share of the episodes, those with the highest returns."),
            GATO_FIELD(min_return, "Smallest return kept."), GATO_FIELD(max_return, "Largest return kept."))
void validate_config(const FilterEntry& entry, ConfigProblems& problems);

/// What a filter did to one source, for people and for the run folder.
struct FilterReport {
  std::string source, task;
  std::string rule;                     ///< As a sentence: "return >= 0.8 of the expert's, success".
  int64_t window = 0;                   ///< W; 0 where no rule asks for the expert's return.
  std::optional<double> expert_return;  ///< E.
  std::optional<double> base_return;    ///< Where E is not positive.
  std::optional<double> threshold;      ///< Smallest return kept, of all rules together.
  std::optional<double> upper;          ///< Largest return kept.
  int64_t episodes = 0, kept_episodes = 0;
  int64_t steps = 0, kept_steps = 0;
};

/// The episodes of one task in one shard.
struct TaskShard {
  std::shared_ptr<const episode::ShardReader> reader;
  int task = 0;  ///< Index inside the shard.
};

struct FilteredEpisodes {
  std::vector<std::vector<bool>> keep;  ///< By shard and by position in the shard's index.
  FilterReport report;
};

/// The last entry whose pattern matches, or null.
[[nodiscard]] const FilterEntry* filter_of(const std::vector<FilterEntry>& filters, const std::string& task);

/// Applies one entry to a source. Deterministic from the indexes and the entry. Throws ConfigError naming task and rule
/// when the rule needs returns or successes that episodes do not have, and when no episode is left.
[[nodiscard]] FilteredEpisodes filter_episodes(const FilterEntry& entry, const std::string& source,
                                               const std::vector<TaskShard>& shards);

/// What the filters do to the sources in some shards; sources without a filter are left out. Reads indexes alone.
[[nodiscard]] std::vector<FilterReport> filter_shards(const std::vector<Path>& shards,
                                                      const std::vector<FilterEntry>& filters);

/// Largest and smallest mean of `window` consecutive values (of all when there are fewer); at least one value.
struct WindowMeans {
  double largest = 0, smallest = 0;
};
[[nodiscard]] WindowMeans window_means(const std::vector<double>& values, int64_t window);

/// The reports as a table for people, and as one JSON array for the run folder.
[[nodiscard]] std::string filter_table(const std::vector<FilterReport>& reports);
[[nodiscard]] std::string filter_json(const std::vector<FilterReport>& reports);

}  // namespace gato::data
