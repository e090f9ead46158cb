#pragma once
#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "gato/core/file.h"  // Path
#include "gato/run/waiting_lines.h"

/// The numbers of a run over time: `metrics.jsonl`, one JSON object per line (docs/formats/run_folder.md).
namespace gato::run {

/// Metrics by flat name such as "train/loss/control". Not-a-number and infinities are allowed.
using MetricValues = std::map<std::string, double>;

/// Appends points to a metrics file. Every line is one write(), so a kill leaves whole lines. A line cut by a full disk
/// or power cut is closed off when the next writer opens the file; lines that the disk refuses wait in memory
/// (WaitingLines). Thread-safe; one process per file.
class MetricsWriter {
 public:
  /// `attempt` as RunFolder::begin_attempt gave it. Throws IoError.
  MetricsWriter(Path path, int64_t attempt);

  /// Writes {"time", "attempt", "step", "tokens", values...}. Non-finite values become null. Several lines may have the
  /// same step. Names are of letters, digits and "_./-", and not one of the four above (ContractError).
  void write(int64_t step, int64_t tokens, const MetricValues& values) const;

 private:
  int64_t attempt_;
  mutable std::mutex mutex_;
  mutable WaitingLines lines_;  // guarded by mutex_
};

/// What is known of one step.
struct MetricPoint {
  double time = 0;      ///< Seconds since 1970, of the last line.
  int64_t attempt = 0;  ///< Of the last line.
  int64_t step = 0;
  int64_t tokens = 0;
  MetricValues values;  ///< NaN where null was written.
};

/// A metrics file as read.
struct Metrics {
  std::vector<MetricPoint> points;  ///< One per step, rising.
  int64_t damaged_lines = 0;        ///< Lines that were skipped, such as a torn last one.

  /// (step, value) of one metric, NaN left out.
  [[nodiscard]] std::vector<std::pair<int64_t, double>> series(const std::string& name) const;
  [[nodiscard]] std::vector<std::string> names() const;  ///< Sorted.
};

/// Reads a metrics file; a missing one gives no points. Where lines share a step the last value of each metric counts.
/// When a later attempt writes at a step, what earlier attempts wrote at higher steps is dropped: it was computed
/// again.
[[nodiscard]] Metrics read_metrics(const Path& path);

}  // namespace gato::run
