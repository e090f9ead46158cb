#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gato/data/plan.h"
#include "gato/data/quarantine.h"

namespace gato::data {

/// Rows as plain arrays of rows x row_tokens entries, row-major.
struct Batch {
  int64_t first_row = 0, rows = 0, row_tokens = 0;
  std::vector<int32_t> ids;              ///< -1 at patches and padding.
  std::vector<int32_t> targets;          ///< Target at t is predicted from t - 1; -1 where there is no loss.
  std::vector<float> loss_weights;       ///< 0 where there is no loss; the first token of a sequence never has one.
  std::vector<uint8_t> kinds;            ///< tokenizer::TokenKind.
  std::vector<int32_t> sequence_starts;  ///< Row offset where the token's sequence starts; padding is its own sequence.
  std::vector<int32_t> local_positions;  ///< tokenizer::kNoPosition where none.
  std::vector<int16_t> sources;          ///< Index of the source; -1 at padding.
  std::vector<int64_t> patch_index;      ///< Flat position (row x row_tokens + t) of every patch.
  std::vector<uint8_t> patches;          ///< 768 bytes each: 16 x 16 x 3.
  std::vector<int32_t> patch_rows,
      patch_columns;           ///< Drawn inside the patch's interval (training) or its middle (validation).
  int64_t tokens = 0;          ///< Tokens that are not padding.
  int64_t dropped_tokens = 0;  ///< Share of the rows' blocks that fitted no row.
  double loss_weight_sum = 0;
  bool operator==(const Batch&) const = default;
};

/// Builds training rows. Row r depends on (plan, quarantine list, r) alone, so any number of threads and processes get
/// the same bytes. Const and thread-safe.
class RowBuilder {
 public:
  /// `draw_patch_positions`: random inside the interval (training), else the interval's middle. With a `quarantine`,
  /// sequences whose episodes cannot be read are put on its list, and padding takes their place (no loss, every token a
  /// sequence of its own); without one they are errors.
  RowBuilder(std::shared_ptr<const RowPlan> plan, bool draw_patch_positions,
             std::shared_ptr<Quarantine> quarantine = nullptr);
  [[nodiscard]] const RowPlan& plan() const { return *plan_; }
  [[nodiscard]] const std::shared_ptr<Quarantine>& quarantine() const { return quarantine_; }
  /// Appends row `row` (>= 0) to `batch`. Throws DataError naming file and offset when a record it needs is damaged
  /// (with a quarantine: when its budget is spent), IoError when the system cannot read it.
  void append_row(int64_t row, Batch& batch, StageSeconds* seconds = nullptr) const;
  /// `seconds`, when given, grows by the time it took, by stage; measured on some rows and scaled to all.
  [[nodiscard]] Batch build(int64_t first_row, int64_t rows, StageSeconds* seconds = nullptr) const;

 private:
  void fill_stream(int64_t row, const PlannedRow& planned, Batch& batch, tokenizer::TokenSequence& stream,
                   StageSeconds* seconds) const;
  bool append_or_quarantine(int64_t row, const PlannedSequence& sequence, tokenizer::TokenSequence& stream,
                            StageSeconds* seconds) const;
  [[nodiscard]] bool nothing_else_damaged(int64_t row, const PlannedSequence& sequence) const;
  [[nodiscard]] bool is_held(const Source& source, const Window& window, int64_t row) const;

  std::shared_ptr<const RowPlan> plan_;
  bool draw_patch_positions_;
  std::shared_ptr<Quarantine> quarantine_;
};

/// The part of rows [first, first + count) that process `rank` of `world` takes: contiguous, sizes differ by at most
/// one.
struct RowRange {
  int64_t first = 0, count = 0;
};
[[nodiscard]] RowRange rows_of_rank(int64_t first, int64_t count, int rank, int world);

/// Where a loader's time goes.
struct LoaderStages {
  StageSeconds work;  ///< Of all its threads.
  double idle = 0;    ///< Seconds its threads waited for the consumer to take a batch.
  double waited = 0;  ///< Seconds the consumer waited for a batch.
  [[nodiscard]] std::string slowest()
      const;                               ///< "plan", "read", "decode" or "pack"; "consumer" when threads idle most.
  [[nodiscard]] std::string text() const;  ///< "decode 71 %, read 20 %, pack 8 %, plan 1 %": shares of the work.
};

/// Builds batches ahead of the training loop on its own threads. Batch n of the loader holds this rank's part of the
/// rows [first_row + n x batch_rows, + batch_rows). A batch that was built before damage was found which concerns it is
/// built again, so that a resumed run makes the same rows. Used by one thread; destruction stops the threads.
class Loader {
 public:
  Loader(std::shared_ptr<const RowBuilder> builder, int64_t first_row, int64_t batch_rows, int rank, int world,
         int threads, int64_t prefetch);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;
  /// The next batch. Rethrows the error of the thread that built it; Interrupted when stop_requested() while waiting.
  [[nodiscard]] Batch next();
  [[nodiscard]] double seconds_waited() const;  ///< In next(), since construction.
  [[nodiscard]] LoaderStages stages() const;    ///< Since construction.

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace gato::data
