#include "console.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <mutex>
#include <string>

namespace gato::console {
namespace {

constexpr std::string_view kClearLine = "\r\x1b[K";

struct State {
  std::mutex mutex;
  std::string bar;  // what stands on the last line of the terminal, empty when there is no bar
  std::atomic<bool> silent{false};
};

State& state() {
  static State* const instance = new State;  // never destroyed: other static objects may still write
  return *instance;
}

/// Standard error may be closed or full: messages are then lost, work goes on.
void write_raw(std::string_view text) {
  while (!text.empty()) {
    const ssize_t count = ::write(STDERR_FILENO, text.data(), text.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return;
    text.remove_prefix(static_cast<size_t>(count));
  }
}

}  // namespace

bool is_terminal() { return ::isatty(STDERR_FILENO) == 1; }

int width() {
  struct winsize size {};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

void write_lines(std::string_view text) {
  State& console = state();
  const std::lock_guard lock(console.mutex);
  std::string out;
  if (!console.bar.empty()) out += kClearLine;
  out += text;
  out += console.bar;
  write_raw(out);
}

void draw_bar(std::string_view bar) {
  State& console = state();
  const std::lock_guard lock(console.mutex);
  console.bar = bar;
  write_raw(std::string(kClearLine) + console.bar);
}

void end_bar(std::string_view bar) {
  State& console = state();
  const std::lock_guard lock(console.mutex);
  console.bar.clear();
  write_raw(std::string(kClearLine).append(bar).append("\n"));
}

void set_progress_silent(bool silent) { state().silent.store(silent); }

bool progress_silent() { return state().silent.load(); }

}  // namespace gato::console
