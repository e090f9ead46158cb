#pragma once
#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "gato/core/file.h"

namespace gato::cli {

struct LocalWorkersOptions {
  Path program;  ///< gato-eval.
  Path run;      ///< Run folder; logs go to logs/eval-worker-K.log in it.
  int64_t workers = 0, threads = 1;
  double stall_seconds = 900;  ///< How long one may not come on.
};

/// gato-eval processes that work on the run's evaluation queue beside training, with lower priority. One that crashes
/// or hangs is ended and started again a few times and then left; nothing of it reaches training. They end with this
/// object, and with this process however that ends. Starts nothing where `workers` is 0.
class LocalWorkers {
 public:
  explicit LocalWorkers(LocalWorkersOptions options);
  LocalWorkers(const LocalWorkers&) = delete;
  LocalWorkers& operator=(const LocalWorkers&) = delete;
  ~LocalWorkers();  ///< Asks them to end (TERM), kills those that have not after some seconds.

  /// Waits until they have ended by themselves, the run being finished and its queue drained, or have been given up;
  /// returns at once when a signal asks this process to stop. One that hangs costs `stall_seconds` a few times, not
  /// more.
  void wait_until_drained();

 private:
  struct Worker {
    pid_t process = 0;  // 0: none
    int64_t crashes = 0;
    bool ended = false;  // for good
    int64_t progress = -1;
    std::chrono::steady_clock::time_point came_on = {};  // when `progress` was last another
  };
  void watch();
  void start(size_t number);
  void look_after(size_t number);
  void end_if_it_hangs(size_t number);
  [[nodiscard]] bool all_ended() const;

  LocalWorkersOptions options_;
  std::vector<Worker> workers_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::thread watcher_;
};

}  // namespace gato::cli
