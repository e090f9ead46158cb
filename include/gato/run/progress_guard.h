#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "gato/core/file.h"

/// Keeps a launcher that restarts whatever fails from doing so for ever: failures.json of the run folder
/// (docs/formats/run_folder.md).
namespace gato::run {

/// One attempt that failed.
struct AttemptFailure {
  int64_t attempt = 0;
  int64_t step = 0;  ///< That it worked on, from 1.
  double time = 0;   ///< Seconds since 1970.
  std::string message;
  bool operator==(const AttemptFailure&) const = default;
};

/// The attempts that failed one after the other at the same step, oldest first, and the attempt that has begun and not
/// yet said how it ended (0: none).
struct FailureRecord {
  int64_t open_attempt = 0;
  std::vector<AttemptFailure> failures;
  bool operator==(const FailureRecord&) const = default;
};
[[nodiscard]] std::string to_json(const FailureRecord& record);
/// Throws DataError naming `origin` and what is wrong.
[[nodiscard]] FailureRecord parse_failure_record(std::string_view text, const std::string& origin);

/// Used by the one process that holds the run's lock. One thread.
class ProgressGuard {
 public:
  /// Begins attempt `attempt` of the run in `root`. An attempt before it that never said how it ended was killed, and
  /// counts as a failure at the step it worked on. Throws NoProgressError, naming what happened and the file to remove,
  /// when the last `most` attempts failed at the same step. `most` 0: never. A damaged file is set aside.
  ProgressGuard(const Path& root, int64_t attempt, int64_t most);
  ProgressGuard(const ProgressGuard&) = delete;
  ProgressGuard& operator=(const ProgressGuard&) = delete;
  ~ProgressGuard();

  /// Cheap enough for every step, and not lost when the process is killed: one small write without fsync.
  void working_on(int64_t step);
  /// This attempt did what it was to do: earlier failures are forgotten.
  void ended_well();
  /// This attempt failed. Throws NoProgressError when it was the `most`-th in a row at its step. Before the first step
  /// nothing is counted: the launcher's own limit holds there.
  void failed(std::string_view message);
  /// This attempt ended for a reason that says nothing of its step (a stop signal, a wrong setting).
  void leave();

 private:
  void write() const;
  void count(AttemptFailure failure);
  [[noreturn]] void refuse() const;

  Path path_, step_path_;
  int64_t attempt_, most_, step_ = 0;
  FailureRecord record_;
  int descriptor_ = -1;
};

}  // namespace gato::run
