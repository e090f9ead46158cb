#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gato/data/source.h"

namespace gato::data {

constexpr int64_t kBlockRows = 64;  ///< Rows planned together.

/// A sequence of a row: an optional prompt, then a window of the same task (or several, where the mixture groups them).
struct PlannedSequence {
  int32_t source = 0;  ///< Index into the sources.
  Window window;
  std::vector<Window> group;  ///< Further windows that stand behind `window` (MixtureEntry::group); usually none.
  bool has_prompt = false;
  Window prompt;       ///< Of another episode than any of the windows.
  int32_t tokens = 0;  ///< Of prompt and windows.
  uint64_t epoch = 0;  ///< Of the source; counts on through the phases of the schedule.
  uint64_t item = 0;   ///< Number of the item inside the epoch. Parts of an item that was cut have the same number.
  uint64_t key = 0;    ///< Keys the sequence's random draws.
  bool operator==(const PlannedSequence&) const = default;
};

struct PlannedRow {
  std::vector<PlannedSequence> sequences;  ///< In the order in which they stand in the row.
  bool operator==(const PlannedRow&) const = default;
};

struct PlannedBlock {
  std::vector<PlannedRow> rows;  ///< kBlockRows of them.
  int64_t planned_tokens = 0;    ///< Tokens of all drawn windows.
  int64_t dropped_tokens = 0;    ///< Of those that fitted no row.
  int64_t sequences = 0;         ///< In sources with prompts.
  int64_t prompts = 0;           ///< Of those that have one.
  int64_t missed_prompts = 0;    ///< Of those that should have one, but no other episode of their agent offers it.
  bool operator==(const PlannedBlock&) const = default;
};

/// Share and loss of one source in a phase, for people.
struct SourceShare {
  std::string source, task, domain;
  double asked_share = 0;      ///< Of tokens, prompts included.
  double tokens_per_item = 0;  ///< Mean over an epoch, with prompts. An item is a window, a group, or a stretch.
  double label_weight = 0;     ///< loss_weight x (tokens per label) ^ power.
  double label_share = 0;      ///< Expected share of all tokens that carry loss as labels.
  double loss_share = 0;       ///< Expected share of the summed loss weights of labels.
  double prompt_share = 0;     ///< Expected share of sequences with a prompt.
  double without_prompt = 0;   ///< Share of its episodes that can have none: no other episode of their source agent.
  double prompt_tokens = 0;    ///< Expected share of its tokens that stand in prompts.
  double epoch_rows = 0;       ///< Rows of the whole mixture until every window of the source was used once.
  double items_per_epoch = 0;
};

/// The sources of one phase of the schedule: data can be added during a run (schedule.h opens them).
struct PhaseSources {
  std::vector<std::shared_ptr<const Source>> sources;
};

/// Says which windows are in which row: a pure function of (configuration, sources, seed, row), from the sources'
/// indexes alone. docs/data.md describes how. Const and thread-safe.
///
/// Blocks of 64 rows draw from each source the next items of its endless shuffled sequence (a closed form of the
/// block's number), and pack them. Every epoch of a source uses each step once, cut at other offsets; a source keeps
/// its place when a phase begins that cuts the same data in the same way, and begins a new epoch otherwise.
class RowPlan {
 public:
  /// The same sources in all phases. Throws ConfigError naming the task for: a mixture without sources, a pattern that
  /// matches nothing (unless the phase allows it), windows that fit no row; ConfigError or IoError for a mixture file
  /// that cannot be read. `allow_missing`: patterns without a source are passed over in all phases, and a phase without
  /// any source has no rows (for validation, where small data sets have no episodes).
  RowPlan(DataConfig config, std::vector<std::shared_ptr<const Source>> sources, uint64_t seed,
          bool allow_missing = false);
  /// One entry of `phases` per phase of config.schedule. A source is known by its id: under the same id a later phase
  /// may hold the same shards (preferably as the same object) or more of them.
  RowPlan(DataConfig config, std::vector<PhaseSources> phases, uint64_t seed, bool allow_missing = false);
  ~RowPlan();

  /// The plan of rows [64 index, 64 index + 64), from a small cache when it was asked for before.
  [[nodiscard]] std::shared_ptr<const PlannedBlock> block(int64_t index) const;
  /// False where no source of the row's phase has episodes (only with `allow_missing`): such rows are all padding.
  [[nodiscard]] bool has_rows(int64_t row) const;
  [[nodiscard]] int64_t first_row_of_phase(int64_t row) const;  ///< First row of the phase that holds for `row`.
  /// The sources of all phases, each object once, in the order of phases. PlannedSequence::source counts in these.
  [[nodiscard]] const std::vector<std::shared_ptr<const Source>>& sources() const;
  /// With the mixtures of files in place of their names.
  [[nodiscard]] const DataConfig& config() const;
  [[nodiscard]] uint64_t seed() const;
  [[nodiscard]] std::vector<SourceShare> shares(int64_t row) const;  ///< Of the phase that holds for `row`.
  /// Patterns of the phase that holds for `row` that matched no source, and were passed over.
  [[nodiscard]] const std::vector<std::string>& missing_patterns(int64_t row) const;
  /// Both of a source that is used in the phase that holds for `row`.
  [[nodiscard]] double label_weight(int64_t row, int32_t source) const;
  [[nodiscard]] const MixtureEntry& entry(int64_t row, int32_t source) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// How one episode of `length` steps is cut in one epoch: number of windows (the same in every epoch) and window
/// `index`.
[[nodiscard]] int64_t num_windows(int64_t length, int64_t low, int64_t high);
[[nodiscard]] std::pair<int64_t, int64_t> window_at(int64_t length, int64_t low, int64_t high, uint64_t key,
                                                    int64_t index);

}  // namespace gato::data
