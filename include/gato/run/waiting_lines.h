#pragma once
#include <chrono>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>

#include "gato/core/file.h"  // Path

namespace gato::run {

/// Lines for a file of a run, for whose sake the run must not end: while the disk refuses them (full, unplugged) they
/// wait in memory, and every flush() tries again. What waits is bounded: beyond `most_bytes` the oldest lines are given
/// up, which a warning counts. Warnings come at most once a minute. One thread.
class WaitingLines {
 public:
  static constexpr size_t kMostBytes = size_t{16} << 20;

  /// `header`: the first line of a file that is not there yet; empty: none.
  explicit WaitingLines(Path path, std::string header = "", size_t most_bytes = kMostBytes);
  WaitingLines(const WaitingLines&) = delete;
  WaitingLines& operator=(const WaitingLines&) = delete;
  ~WaitingLines();  ///< Tries a last time, and tells of what is lost.

  void add(std::string line);  ///< Without its end. Kept until flush().
  /// Appends all that waits as one write(), whole or not at all. Does not throw for what happens to the file.
  void flush();
  [[nodiscard]] size_t num_waiting() const { return lines_.size(); }

 private:
  using Clock = std::chrono::steady_clock;
  void give_up_oldest();
  void tell(const std::string& cause);

  Path path_;
  std::string header_;
  size_t most_bytes_, bytes_ = 0;
  std::deque<std::string> lines_;
  bool refused_ = false;  // by the last flush
  int64_t given_up_ = 0;  // lines since the disk took the last ones
  Clock::time_point told_;
};

}  // namespace gato::run
