#pragma once
#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gato/env/remote.h"

namespace gato::env::remote {

/// File descriptors that a worker inherits, under these numbers.
constexpr int kWorkerSocket = 3, kWorkerMemory = 4, kWorkerLifeline = 5;

/// What a worker process runs: a program with its arguments, or, for tests, a function in a forked child.
struct WorkerProgram {
  std::vector<std::string> command;  ///< Its environment holds little more than PATH: nothing of ours reaches Python.
  std::function<int()> in_child;     ///< Used when `command` is empty; must call only what is safe after fork().
};

/// When waiting for a worker ends.
struct Deadline {
  using Clock = std::chrono::steady_clock;
  explicit Deadline(double allowed)
      : seconds(allowed), at(Clock::now() + std::chrono::nanoseconds(static_cast<int64_t>(allowed * 1e9))) {}
  double seconds;  ///< Allowed in all, for messages.
  Clock::time_point at;
};

/// Bytes that both processes see: made by us, of fixed size, so that the other side cannot make us fault.
class SharedMemory {
 public:
  explicit SharedMemory(size_t size);  ///< EnvironmentError when there is none.
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;
  ~SharedMemory();
  [[nodiscard]] int descriptor() const { return descriptor_; }
  [[nodiscard]] std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  int descriptor_ = -1;
  size_t size_;
  const std::byte* data_ = nullptr;
};

/// A running worker: its socket, its shared memory and what it printed. In a process group of its own, so that Ctrl-C
/// is ours to handle; killed, and waited for, when this object goes, and by the kernel when this process dies. Its
/// limits are those of `limits`; no_new_privs is set.
class WorkerProcess {
 public:
  /// EnvironmentError when it cannot be started.
  WorkerProcess(const WorkerProgram& program, const RemoteLimits& limits, size_t memory_bytes);
  WorkerProcess(const WorkerProcess&) = delete;
  WorkerProcess& operator=(const WorkerProcess&) = delete;
  ~WorkerProcess();

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] std::span<const std::byte> memory() const { return memory_.bytes(); }

  /// Sends all of `bytes`. DataError when it cannot in time.
  void send(std::string_view bytes, const Deadline& deadline);
  /// What has come, at least one byte. DataError when nothing comes in time, or the worker is gone.
  [[nodiscard]] std::string receive(const Deadline& deadline);

  /// Ends it, and says how it ended and the last lines it printed: "was ended by signal 9".
  [[nodiscard]] std::string end();

 private:
  void wait_for(short events, const Deadline& deadline) const;
  [[nodiscard]] std::string printed() const;

  SharedMemory memory_;
  pid_t pid_ = -1;
  int socket_ = -1, lifeline_ = -1, log_ = -1;
};

}  // namespace gato::env::remote
