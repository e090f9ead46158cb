#pragma once
#include <sys/types.h>

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
};

/// gato-eval processes that work on the run's evaluation queue beside training, with lower priority. One that crashes
/// is started again a few times and then left; nothing of it reaches training. They end with this object, and with this
/// process however that ends. Starts nothing where `workers` is 0.
class LocalWorkers {
 public:
  explicit LocalWorkers(LocalWorkersOptions options);
  LocalWorkers(const LocalWorkers&) = delete;
  LocalWorkers& operator=(const LocalWorkers&) = delete;
  ~LocalWorkers();  ///< Asks them to end (TERM), kills those that have not after some seconds.

  /// Waits until they have ended by themselves, the run being finished and its queue drained; returns at once when a
  /// signal asks this process to stop.
  void wait_until_drained();

 private:
  struct Worker {
    pid_t process = 0;  // 0: none
    int64_t crashes = 0;
    bool ended = false;  // for good
  };
  void watch();
  void start(size_t number);
  void look_after(size_t number);
  [[nodiscard]] bool all_ended() const;

  LocalWorkersOptions options_;
  std::vector<Worker> workers_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::thread watcher_;
};

}  // namespace gato::cli
