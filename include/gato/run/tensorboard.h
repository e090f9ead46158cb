#pragma once
#include <cstdint>
#include <string>

#include "gato/core/file.h"    // Path
#include "gato/run/metrics.h"  // MetricValues

namespace gato::run {

/// Writes scalars as a TensorBoard event file (TFRecord framing, Event messages, encoded by ourselves). Every writer
/// makes a new file, `events.out.tfevents.<seconds>.<host>.<process>.<attempt>`: a file that a kill may have cut is
/// never appended to. The first events carry the format version and the step after `resume_step`, from which on
/// TensorBoard drops what earlier attempts wrote. An event that does not fit on the disk is taken back whole. One
/// thread.
class TensorBoardWriter {
 public:
  /// `folder` as RunFolder::tensorboard_path gives it; one folder per writing process. Throws IoError.
  TensorBoardWriter(const Path& folder, int64_t attempt, int64_t resume_step);
  TensorBoardWriter(const TensorBoardWriter&) = delete;
  TensorBoardWriter& operator=(const TensorBoardWriter&) = delete;
  ~TensorBoardWriter();

  /// One event with all `values` at `step`, in one write(). Non-finite values are kept, TensorBoard shows them as gaps.
  void write(int64_t step, const MetricValues& values);

  [[nodiscard]] const Path& path() const { return path_; }

 private:
  void append(const std::string& event);

  Path path_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

}  // namespace gato::run
