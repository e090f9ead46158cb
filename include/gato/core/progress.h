#pragma once
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

namespace gato {

/// Progress of long work on standard error: a bar redrawn at most ten times a second on a terminal, plain lines at most
/// every five seconds otherwise. Shows count, share, rate and time left. Thread-safe. `GATO_PROGRESS=off` silences it.
class Progress {
 public:
  /// `total` 0: unknown. `unit` is a plural noun ("episodes").
  Progress(std::string label, int64_t total, std::string unit);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();  ///< Calls finish().

  void add(int64_t count = 1);
  void set(int64_t count);
  void note(std::string text);  ///< Short text shown behind the numbers ("loss 2.31").
  void finish();                ///< Prints the final line once.

 private:
  void draw(bool last);
  std::string label_, unit_, note_;
  int64_t total_, done_ = 0;
  bool terminal_, silent_, finished_ = false;
  std::chrono::steady_clock::time_point start_, last_draw_;
  std::mutex mutex_;
};

}  // namespace gato
