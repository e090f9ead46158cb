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

/// Relative weight of tasks inside one mixture entry.
struct TaskShare {
  std::string tasks;  ///< Pattern of task ids.
  double share = 1;   ///< Weight of each task that matches; 0 leaves it out.
  bool operator==(const TaskShare&) const = default;
};
GATO_CONFIG(TaskShare, GATO_FIELD(tasks, "Pattern of task ids; the last one that matches a task holds for it."),
            GATO_FIELD(share, "Weight of each task that matches; tasks that match none weigh 1."))
void validate_config(const TaskShare& share, ConfigProblems& problems);

/// How the tasks that match one pattern are mixed in. A task belongs to the last entry that matches it. The entry's
/// share is divided among its tasks by their weights in `within` (equally without it), and a task's share among the
/// data sets that hold it by their tokens.
struct MixtureEntry {
  std::string tasks;                        ///< Pattern of task ids.
  double share = 1;                         ///< Share of tokens, relative to the other entries; 0 leaves them out.
  WindowSteps steps = {};                   ///< Window length.
  double loss_weight = 1;                   ///< Multiplies the loss of every label.
  double observed_text_loss = 0;            ///< Loss weight of text observed inside episodes, relative to a label's.
  double observed_value_loss = 0;           ///< Loss weight of observed numbers, relative to a label's.
  double prompt_probability = 0;            ///< Share of sequences with a demonstration in front (paper: 0.25).
  WindowSteps prompt_steps = {1, 1, true};  ///< Length of a prompt; `row`: as data.prompt_tokens_share allows.
  int64_t group = 1;                        ///< Windows in one sequence, attending to each other (paper: 5 captions).
  std::vector<TaskShare> within = {};       ///< Weights of the tasks inside this entry.
  bool operator==(const MixtureEntry&) const = default;
};
GATO_CONFIG(MixtureEntry, GATO_FIELD(tasks, "Pattern of task ids; the last entry that matches a task holds for it."),
            GATO_FIELD(share, "Share of tokens, relative to the other entries."),
            GATO_FIELD(steps, "Steps per window: 1, [1, 4] or row."),
            GATO_FIELD(loss_weight, "Multiplies the loss of every label."),
            GATO_FIELD(observed_text_loss, "Loss weight of observed text, relative to a label's."),
            GATO_FIELD(observed_value_loss, "Loss weight of observed numbers, relative to a label's."),
            GATO_FIELD(prompt_probability, "Share of sequences with a demonstration in front (paper: 0.25)."),
            GATO_FIELD(prompt_steps, "Steps per prompt: 1, [1, 4] or row (as data.prompt_tokens_share allows)."),
            GATO_FIELD(group, "Windows that form one sequence together (paper: 5 for vision and language)."),
            GATO_FIELD(within, "Weights of the tasks inside this entry; equal without it."))
void validate_config(const MixtureEntry& entry, ConfigProblems& problems);

/// From `first_row` on, rows are drawn from this mixture.
struct MixturePhase {
  int64_t first_row = 0;
  std::vector<MixtureEntry> mixture = {};
  std::string mixture_file = {};  ///< A file (MixtureFile) that is read in place of `mixture`.
  /// Patterns without data are passed over (and told) instead of being errors; the other shares grow accordingly.
  bool allow_missing = false;
  std::vector<std::string> datasets = {};  ///< As DataConfig::datasets; empty: those of the phase before.
  bool operator==(const MixturePhase&) const = default;
};
GATO_CONFIG(MixturePhase, GATO_FIELD(first_row, "Row from which the mixture holds; rounded up to a block of 64 rows."),
            GATO_FIELD(mixture, "Token shares by task pattern."),
            GATO_FIELD(mixture_file, "File with the mixture (such as configs/mixtures/gato.yaml), in its place."),
            GATO_FIELD(allow_missing, "Whether patterns without data are passed over."),
            GATO_FIELD(datasets, "Data sets from this phase on; none: those of the phase before."))

/// A mixture in a file of its own, such as configs/mixtures/gato.yaml.
struct MixtureFile {
  std::string description;
  std::vector<MixtureEntry> mixture;
};
GATO_CONFIG(MixtureFile, GATO_FIELD(description, "For people."), GATO_FIELD(mixture, "Token shares by task pattern."))
void validate_config(const MixtureFile& file, ConfigProblems& problems);

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

/// What an empty schedule stands for: everything, in windows that fill a row, every task with an equal share.
[[nodiscard]] MixturePhase default_phase();

/// Replaces every phase's `mixture_file` by the mixture that it holds, so that what a run folder records does not
/// change with the file. Relative paths count from the working directory. Throws IoError or ConfigError naming the
/// file.
void expand_mixture_files(DataConfig& config);

/// The data sets of phase `index` of the schedule: its own, or those of the last phase before that names some, or
/// config.datasets.
[[nodiscard]] const std::vector<std::string>& datasets_of_phase(const DataConfig& config, size_t index);

}  // namespace gato::data
