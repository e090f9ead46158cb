#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gato/core/file.h"

/// Who of a run's processes is alive and what it does: ranks/rank-<n>.json of the run folder, written by a thread of
/// every process every few seconds, and read when something went wrong (docs/formats/run_folder.md). It works where the
/// exchange between processes does not: it needs the run folder's disk, and a listening socket nobody talks to.
namespace gato::run {

/// How a process ended, as far as it could say so itself.
enum class RankEnd {
  kRunning,  ///< It has not ended, or could not say so (SIGKILL, power).
  kDone,     ///< It finished, or saved and stopped as asked.
  kFailed,   ///< By an error of its own.
  kPeer,     ///< Because of another process.
};

/// What one process says of itself.
struct RankState {
  int64_t rank = 0, size = 1;
  std::string run_attempt;  ///< Which start of the run, the same for all its processes.
  std::string host;
  std::string machine;         ///< Tells hosts of one name, and containers on one host, apart.
  int64_t process = 0;         ///< Its id on that host,
  uint64_t process_start = 0;  ///< and when it began (field 22 of /proc/<id>/stat): ids are used again.
  std::string address;         ///< Where its socket listens; "": nowhere.
  int64_t port = 0;
  int64_t beat = 0;             ///< Grows by one with every writing: who stands still is told by it, not by clocks.
  int64_t step = 0;             ///< That it works on, from 1; 0 before the first.
  std::string activity;         ///< "waiting for data", "exchange of gradients", ...
  bool is_exchange = false;     ///< Whether the activity is waiting for other processes.
  double activity_seconds = 0;  ///< How long it has been at it.
  RankEnd end = RankEnd::kRunning;
  std::string message;  ///< Why it ended.
  bool operator==(const RankState&) const = default;
};
[[nodiscard]] std::string to_json(const RankState& state);
/// Throws DataError naming `origin` and what is wrong.
[[nodiscard]] RankState parse_rank_state(std::string_view text, const std::string& origin);

/// The file of rank `rank` in a folder `ranks/`.
[[nodiscard]] Path rank_state_path(const Path& folder, int64_t rank);

struct HeartbeatOptions {
  Path folder;  ///< ranks/ of the run folder.
  int64_t rank = 0, size = 1;
  std::string run_attempt;
  std::string address;  ///< Address under which other hosts reach this process; "": no socket.
  double interval = 3;  ///< Seconds between writings; > 0.
};

/// Writes this process's state until destruction, from a thread of its own. A disk that fails or hangs holds up this
/// thread alone. Thread-safe.
class Heartbeat {
 public:
  explicit Heartbeat(HeartbeatOptions options);
  ~Heartbeat();  ///< Does not wait for a disk that hangs longer than a few seconds.
  Heartbeat(const Heartbeat&) = delete;
  Heartbeat& operator=(const Heartbeat&) = delete;

  void set_step(int64_t step);
  /// What the training thread does from now on. Cheap: nothing is written.
  void set_activity(std::string_view activity, bool is_exchange);
  /// The last word, written at once; what is said later is ignored.
  void end(RankEnd end, std::string_view message);

  [[nodiscard]] RankState state() const;  ///< As it would be written now.
  [[nodiscard]] const HeartbeatOptions& options() const;

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

/// What is known of one process when an exchange has failed.
struct Suspect {
  int64_t rank = 0;
  std::string what;  ///< "rank 3 (gpu-b, process 4711) died: ... at step 12".
};

/// Why an exchange failed, from the states of the others and by trying their sockets.
struct Diagnosis {
  bool is_lost = false;           ///< Whether the culprits ended, stopped or are out of reach, rather than busy.
  std::vector<Suspect> culprits;  ///< Empty where every process is alive and waits.
  std::string text;               ///< One sentence for every log.
};

/// Looks for who is to blame: processes that ended by an error of their own, that are gone, stopped, or out of reach,
/// that stand still, that have not begun, or that are busy with something else. Takes up to `patience_seconds`, since
/// that somebody stands still shows in time only; less when it is clear before. Never throws.
[[nodiscard]] Diagnosis diagnose(const HeartbeatOptions& own, double patience_seconds) noexcept;

}  // namespace gato::run
