#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "gato/core/launch.h"

namespace gato::train {

/// Word of a stop signal before training begins, by way of the store where the processes meet: until then any process
/// may be waiting for any other, and none can be asked by an exchange. So all of them end alike. Without a connection
/// nobody is told and nothing is heard. Thread-safe; a call takes two seconds where the store does not answer.
class StopNotice {
 public:
  StopNotice() = default;
  StopNotice(const StopNotice&) = delete;
  StopNotice& operator=(const StopNotice&) = delete;

  /// Connects to the store at the master's address, which is there. `server`: what is to live as long as this.
  void open(const Launch& launch, std::shared_ptr<void> server);
  /// Tells the others that this process was asked to stop; the first one's words count.
  void announce(const std::string& why);
  /// What some process announced; "" for nothing.
  [[nodiscard]] std::string heard();
  /// To be called before the process ends. Where it serves the store: waits until all have announced or heard, for some
  /// seconds at most.
  void linger();

 private:
  struct State;
  [[nodiscard]] std::shared_ptr<State> state() const;
  static bool ask(const std::shared_ptr<State>& state, const std::function<void(State&)>& use);

  mutable std::mutex mutex_;
  std::shared_ptr<State> state_;  // guarded by mutex_; null: not open
};

}  // namespace gato::train
