#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "gato/core/config.h"
#include "gato/data/filter.h"

namespace gato::data {

/// Length of a training window in steps: `1`, `[1, 4]` (drawn per window) or `row` (as many as fit a row). For
/// documents the unit is a token and `row` is the only sensible value.
struct WindowSteps {
  int64_t low = 1, high = 1;
  bool row = false;  ///< Then low and high are ignored.
  bool operator==(const WindowSteps&) const = default;
};
bool parse_config_value(const ConfigNode& node, WindowSteps& value, std::string& expected);
std::string config_value_yaml(const WindowSteps& value);

/// How the tasks that match one pattern are mixed in. A task belongs to the last entry that matches it; the entry's
/// share is divided equally among its tasks.
struct MixtureEntry {
  std::string tasks;               ///< Pattern of task ids.
  double share = 1;                ///< Share of tokens, relative to the other entries; 0 leaves the tasks out.
  WindowSteps steps = {};          ///< Window length.
  double loss_weight = 1;          ///< Multiplies the loss of every label.
  double observed_text_loss = 0;   ///< Loss weight of text observed inside episodes, relative to a label's.
  double observed_value_loss = 0;  ///< Loss weight of observed discrete and continuous tokens, relative to a label's.
  double prompt_probability = 0;   ///< Share of sequences with a demonstration in front (paper: 0.25).
};
GATO_CONFIG(MixtureEntry, GATO_FIELD(tasks, "Pattern of task ids; the last entry that matches a task holds for it."),
            GATO_FIELD(share, "Share of tokens, relative to the other entries."),
            GATO_FIELD(steps, "Steps per window: 1, [1, 4] or row."),
            GATO_FIELD(loss_weight, "Multiplies the loss of every label."),
            GATO_FIELD(observed_text_loss, "Loss weight of observed text, relative to a label's."),
            GATO_FIELD(observed_value_loss, "Loss weight of observed numbers, relative to a label's."),
            GATO_FIELD(prompt_probability, "Share of sequences with a demonstration in front."))
void validate_config(const MixtureEntry& entry, ConfigProblems& problems);

/// From `first_row` on, rows are drawn from this mixture.
struct MixturePhase {
  int64_t first_row = 0;
  std::vector<MixtureEntry> mixture;
};
GATO_CONFIG(MixturePhase, GATO_FIELD(first_row, "Row from which the mixture holds; rounded up to a block of 64 rows."),
            GATO_FIELD(mixture, "Token shares by task pattern."))

/// What happens to an episode that cannot be read.
enum class OnCorrupt {
  kFail,        ///< The run ends with an error that names it.
  kQuarantine,  ///< It goes on the run's list (quarantine.h), and padding takes its place.
};
GATO_CONFIG_ENUM(OnCorrupt, 2, {"fail", OnCorrupt::kFail}, {"quarantine", OnCorrupt::kQuarantine})

/// How training rows are made (design.md section 7).
struct DataConfig {
  std::vector<std::string> datasets;  ///< Folders (or shard files); a folder of data set folders counts as all of them.
  int64_t row_tokens = 1024;
  std::vector<MixturePhase> schedule;
  double validation_share = 0.02;    ///< Of the episodes, by a hash of their ids.
  double label_weight_power = 0.5;   ///< Weight of a label = (tokens per label of its source) ^ this.
  double prompt_tokens_share = 0.5;  ///< Longest prompt, as a share of the row.
  double prompt_from_end = 0.5;      ///< Share of prompts taken from the end of their episode.
  bool prompt_loss = false;          ///< Whether actions inside a prompt carry loss.
  int64_t shuffle_shards = 8;        ///< Shards whose windows are shuffled together.
  int64_t loader_threads = 1;        ///< Threads that build rows ahead; rows do not depend on it.
  int64_t prefetch_batches = 4;      ///< Batches built ahead.
  std::vector<FilterEntry> filters;  ///< Which episodes are used; default all.
  OnCorrupt on_corrupt = OnCorrupt::kFail;
  double quarantine_budget = 0.001;  ///< Share of all episodes that may be left out; at least 3 unless it is 0.
  int64_t cache_mib = 1024;          ///< Most MiB of mapped data files kept in memory, episode indexes not counted.
};
GATO_CONFIG(DataConfig, GATO_FIELD(datasets, "Folders of shards, or folders of such folders."),
            GATO_FIELD(row_tokens, "Tokens per row."), GATO_FIELD(schedule, "Mixtures by first row."),
            GATO_FIELD(validation_share, "Share of episodes held out for validation, in [0, 0.5]."),
            GATO_FIELD(label_weight_power, "Weight of a label = (tokens per label of its source) ^ this."),
            GATO_FIELD(prompt_tokens_share, "Longest prompt, as a share of the row, in (0, 0.9]."),
            GATO_FIELD(prompt_from_end, "Share of prompts taken from the end of their episode."),
            GATO_FIELD(prompt_loss, "Whether actions inside a prompt carry loss."),
            GATO_FIELD(shuffle_shards, "Shards whose windows are shuffled together."),
            GATO_FIELD(loader_threads, "Threads that build rows ahead."),
            GATO_FIELD(prefetch_batches, "Batches built ahead."),
            GATO_FIELD(filters, "Which episodes are used, by task pattern; default all."),
            GATO_FIELD(on_corrupt, "fail, or quarantine: leave out episodes that cannot be read."),
            GATO_FIELD(quarantine_budget, "Share of all episodes that may be left out; at least 3 unless it is 0."),
            GATO_FIELD(cache_mib, "Most MiB of mapped data files kept in memory."))
void validate_config(const DataConfig& config, ConfigProblems& problems);

}  // namespace gato::data
