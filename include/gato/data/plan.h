#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gato/data/source.h"

namespace gato::data {

constexpr int64_t kBlockRows = 64;  ///< Rows planned together.

/// A sequence of a row: an optional prompt, then a window of the same task.
struct PlannedSequence {
  int32_t source = 0;  ///< Index into the sources.
  Window window;
  bool has_prompt = false;
  Window prompt;
  int32_t tokens = 0;  ///< Of prompt and window.
  uint64_t item = 0;   ///< Number of the item in its source's endless sequence of windows.
  uint64_t key = 0;    ///< Keys the sequence's random draws.
};

struct PlannedRow {
  std::vector<PlannedSequence> sequences;  ///< In the order in which they stand in the row.
};

struct PlannedBlock {
  std::vector<PlannedRow> rows;  ///< kBlockRows of them.
  int64_t planned_tokens = 0;    ///< Tokens of all drawn windows.
  int64_t dropped_tokens = 0;    ///< Of those that fitted no row.
};

/// Share and loss of one source in a phase, for people.
struct SourceShare {
  std::string source, task, domain;
  double asked_share = 0;      ///< Of tokens.
  double tokens_per_item = 0;  ///< Mean over an epoch.
  double label_weight = 0;     ///< loss_weight x (tokens per label) ^ power.
  double loss_share = 0;       ///< Expected share of the summed loss weights.
  double epoch_rows = 0;       ///< Rows of the whole mixture until every window of the source was used once.
};

/// Says which windows are in which row: a pure function of (configuration, sources, seed, row). Blocks of 64 rows draw
/// from each source the next items of its endless shuffled sequence (a closed form of the block's number), and pack
/// them. Every epoch of a source uses each step once, cut at other offsets. Const and thread-safe.
class RowPlan {
 public:
  /// Throws ConfigError naming the task for: a mixture without sources, a pattern that matches nothing, windows that
  /// fit no row. `allow_missing`: patterns without a source are passed over (for validation, where small data sets have
  /// no episodes).
  RowPlan(DataConfig config, std::vector<std::shared_ptr<const Source>> sources, uint64_t seed,
          bool allow_missing = false);
  ~RowPlan();

  [[nodiscard]] std::shared_ptr<const PlannedBlock> block(int64_t index) const;
  [[nodiscard]] const std::vector<std::shared_ptr<const Source>>& sources() const;
  [[nodiscard]] const DataConfig& config() const;
  [[nodiscard]] uint64_t seed() const;
  [[nodiscard]] std::vector<SourceShare> shares(int64_t row) const;  ///< Of the phase that holds for `row`.
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
