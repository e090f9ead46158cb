#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gato/core/file.h"  // Path, FileLock

/// Everything about a run, in one folder (docs/formats/run_folder.md).
namespace gato::run {

/// The layout of a run folder and its small files. The path accessors touch nothing on disk, so that readers
/// (evaluation, report) use the same class as the one process that writes. Movable. One thread.
class RunFolder {
 public:
  explicit RunFolder(Path root);

  [[nodiscard]] const Path& root() const { return root_; }
  [[nodiscard]] bool exists() const;  ///< Whether it holds a config.yaml.

  [[nodiscard]] Path config_path() const { return root_ / "config.yaml"; }
  [[nodiscard]] Path environment_path() const { return root_ / "environment.json"; }
  [[nodiscard]] Path schedule_path() const { return root_ / "schedule.json"; }
  [[nodiscard]] Path quarantine_path() const { return root_ / "quarantine.jsonl"; }
  [[nodiscard]] Path lock_path() const { return root_ / "lock"; }
  [[nodiscard]] Path metrics_path() const { return root_ / "metrics.jsonl"; }
  [[nodiscard]] Path steps_path() const { return root_ / "steps.csv"; }
  [[nodiscard]] Path scores_path() const { return root_ / "scores.jsonl"; }
  [[nodiscard]] Path tensorboard_path(const std::string& writer) const { return root_ / "tensorboard" / writer; }
  [[nodiscard]] Path checkpoints_path() const { return root_ / "checkpoints"; }
  [[nodiscard]] Path queue_path() const { return root_ / "eval" / "queue"; }
  [[nodiscard]] Path results_path() const { return root_ / "eval" / "results"; }
  /// eval/results/step-00001000@SUITE
  [[nodiscard]] Path results_path(int64_t step, const std::string& suite) const;
  [[nodiscard]] Path report_path() const { return root_ / "report" / "index.html"; }

  /// Makes the folder and its subfolders. Idempotent. IoError naming the path and a remedy.
  void create();

  /// Takes the run's lock for as long as this object lives; makes the folder when missing. ConfigError naming the
  /// holder and what to do when another process trains here. A second call on the same object changes nothing.
  void lock();

  /// Stores the resolved configuration. When another one is there, that one is kept as config-<n>.yaml, n = 1, 2, ...
  /// The file always holds a complete configuration. Returns whether it changed (false for a new run).
  bool write_config(std::string_view yaml);

  /// Stores the data schedule (JSON text, whose content belongs to the data module).
  void write_schedule(std::string_view json);
  [[nodiscard]] std::optional<std::string> read_schedule() const;  ///< Nothing when there is none yet.

  /// Appends this start of the program to environment.json: attempt, time, command, versions of libraries, facts on
  /// host and processor, and those environment variables on a fixed list that bear on results (never others, which may
  /// be secret). Returns the attempt's number, 1 for the first. A damaged file is moved aside with a warning.
  int64_t begin_attempt(const std::map<std::string, std::string>& versions, const std::vector<std::string>& command);

  /// Attempts recorded so far; 0 for a new run.
  [[nodiscard]] int64_t attempts() const;

 private:
  Path root_;
  std::unique_ptr<FileLock> lock_;
};

}  // namespace gato::run
