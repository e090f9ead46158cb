#pragma once
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "checkpointing.h"

/// Saving while training goes on.
namespace gato::train {

struct SaverOptions {
  Path folder;     ///< The run's checkpoints.
  SaveRank place;  ///< Of this process.
  /// The same text at all processes and of no other run of the program: rank 0's checkpoint::process_tag().
  std::string tag;
  bool background = true;  ///< false: no snapshot, start() returns when this process's part is written.
  /// Called by the thread that commits after a checkpoint has its name, such as for deleting old ones. What it throws
  /// is reported as a warning.
  std::function<void()> committed = {};
  /// Where the store's masters are divided: start() calls it at every process, to fill rank 0's memory for the
  /// parameters (undefined at the others). What it throws, start() throws.
  std::function<void(const at::Tensor&)> gather_values = {};
  /// Throws IoError where so many bytes do not fit: rank 0 asks for the whole checkpoint, others for their part.
  std::function<void(const Path&, uint64_t)> check_space = checkpoint::check_free_space;
};

/// How a save ended.
struct SaveOutcome {
  int64_t step = 0;
  int64_t tokens = 0;  ///< TrainingState::tokens at that step.
  bool saved = false;
  std::string problem;       ///< Why not; "" when saved.
  double stall_seconds = 0;  ///< That start() kept its caller: waiting for the save before, and the copy.
  double seconds = 0;        ///< From start() to the end.
  bool operator==(const SaveOutcome&) const = default;
};
/// How rank 0 tells the other processes. Throws DataError for what is no such text.
[[nodiscard]] std::string to_json(const SaveOutcome& outcome);
[[nodiscard]] SaveOutcome parse_save_outcome(const std::string& text);

/// Copies the parameters and moments of this process into memory of its own, and writes them from there on a thread of
/// its own: one save at a time. With several processes every one calls start() at the same step; when all have
/// written(), rank 0's commit() gets everybody's part():
///
///   saver.start(request);                                        // every rank, at a step's end
///   if (agreed(saver.written())) saver.commit(gather(saver.part()));  // every rank, at the end of a later step
///   if (auto outcome = saver.poll()) report(*outcome);
///
/// Only rank 0's outcome says whether there is a checkpoint: the others do not see the end of it. A process by itself
/// commits without that. All functions are called from one thread, none of them throws for what happens to a save: that
/// is in its outcome.
class BackgroundSaver {
 public:
  /// Takes the memory for the snapshot, pinned where the buffers are on a GPU, and touches all of it. The arguments
  /// must outlive the saver, and the optimizer's buffers stay where they are.
  BackgroundSaver(const model::ParameterStore& store, const OptimizerState& optimizer, SaverOptions options);
  BackgroundSaver(const BackgroundSaver&) = delete;
  BackgroundSaver& operator=(const BackgroundSaver&) = delete;
  /// Waits for the thread. A part that was not committed is given up.
  ~BackgroundSaver();

  /// Begins a save. A process by itself waits for the save before, whose outcome poll() then still gives; with several
  /// processes that one must have been committed (ContractError).
  void start(SaveRequest request);

  [[nodiscard]] bool busy() const;     ///< A save was started and its outcome not yet taken.
  [[nodiscard]] bool written() const;  ///< This process's part is on disk, or failed: part() will not wait.
  /// Waits for the part, and gives what commit() wants to know of it.
  [[nodiscard]] std::string part();
  /// With several processes, once for every start(), with the parts of all ranks by rank. Rank 0's thread gives the
  /// checkpoint its name, or removes what was written when a part failed.
  void commit(const std::vector<std::string>& parts);

  [[nodiscard]] bool ended() const;  ///< Whether poll() has an outcome.
  /// The outcome of a save that ended since the last call; each is given once, in order.
  [[nodiscard]] std::optional<SaveOutcome> poll();
  /// Waits for the save that is under way, if there is one, and gives the next outcome. Several processes: commit()
  /// comes before.
  [[nodiscard]] std::optional<SaveOutcome> wait();

 private:
  using Clock = std::chrono::steady_clock;
  enum class Stage { kIdle, kWriting, kWritten, kCommitting, kDone };

  [[nodiscard]] bool is_alone() const { return options_.place.size == 1; }
  void copy_buffers();
  void run(void (BackgroundSaver::*work)());
  void join();
  void write();
  void write_files();
  void commit_parts();
  void give_name();
  void end(const std::string& problem);
  void collect();
  void set_stage(Stage stage);
  [[nodiscard]] Stage stage() const;

  const model::ParameterStore& store_;
  const OptimizerState& optimizer_;
  const SaverOptions options_;
  at::Tensor values_;       // the snapshot; undefined where this process does not save them
  OptimizerState moments_;  // likewise
  int64_t tries_ = 0;       // numbers the unfinished folders, at all ranks alike
  SaveRequest request_;
  Path unfinished_;
  std::optional<checkpoint::CheckpointWriter> writer_;  // rank 0
  std::vector<std::string> parts_;
  std::string part_;
  std::vector<SaveOutcome> outcomes_;  // not yet given
  double stall_seconds_ = 0;
  Clock::time_point started_;

  std::thread thread_;
  mutable std::mutex mutex_;
  Stage stage_ = Stage::kIdle;  // guarded by mutex_
  SaveOutcome outcome_;         // written by the thread before kDone
};

}  // namespace gato::train
