#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "gato/core/file.h"  // Path
#include "gato/run/waiting_lines.h"

/// Every step of a run, one short line each: `steps.csv` (docs/formats/run_folder.md).
namespace gato::run {

/// One step, whether or not it changed the parameters.
struct StepRecord {
  int64_t attempt = 0;
  int64_t step = 0;       ///< Counted from 1.
  int64_t first_row = 0;  ///< First row of its batch.
  double loss = 0;        ///< Per summed loss weight; NaN where there was no label.
  double gradient_norm = 0;
  bool refused = false;
  bool operator==(const StepRecord&) const = default;
};

/// Appends steps. Lines are kept until flush(), then written as one write() and so whole; those that the disk refuses
/// wait in memory (WaitingLines). One thread.
class StepLogWriter {
 public:
  explicit StepLogWriter(Path path);
  void add(const StepRecord& record);
  void flush() { lines_.flush(); }

 private:
  WaitingLines lines_;
};

/// The steps of a run in rising order, from `first_step` on. What an earlier attempt wrote and a later one computed
/// again is dropped, torn lines are skipped. A missing file has no steps.
[[nodiscard]] std::vector<StepRecord> read_steps(const Path& path, int64_t first_step = 0);

}  // namespace gato::run
