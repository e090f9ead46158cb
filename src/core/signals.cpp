#include "gato/core/signals.h"

#include <unistd.h>
#include <csignal>

#include <atomic>

#include "gato/core/error.h"

namespace gato {
namespace {

// Lock-free atomics are the only state that handlers may share with threads.
std::atomic<int> g_stop_signal{0};
std::atomic<bool> g_interrupted{false};
std::atomic<bool> g_save_requested{false};
static_assert(std::atomic<int>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

constexpr int kExitAfterSecondInterrupt = 130;  // 128 + SIGINT, as shells report it

extern "C" void on_stop_signal(int signal) {
  if (signal == SIGINT && g_interrupted.exchange(true)) _exit(kExitAfterSecondInterrupt);
  int none = 0;
  g_stop_signal.compare_exchange_strong(none, signal);
}

extern "C" void on_save_signal(int) { g_save_requested.store(true); }

void install(int signal, void (*handler)(int)) {
  struct sigaction action {};
  action.sa_handler = handler;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;  // libraries below us do not all cope with interrupted calls
  GATO_CHECK(sigaction(signal, &action, nullptr) == 0, "cannot install a handler for signal ", signal);
}

}  // namespace

void install_signal_handlers() {
  for (const int signal : {SIGTERM, SIGINT, SIGUSR1}) install(signal, on_stop_signal);
  install(SIGUSR2, on_save_signal);
  install(SIGPIPE, SIG_IGN);
  install(SIGXFSZ, SIG_IGN);
}

bool stop_requested() { return g_stop_signal.load() != 0; }

int stop_signal() { return g_stop_signal.load(); }

void request_stop() {
  int none = 0;
  g_stop_signal.compare_exchange_strong(none, SIGTERM);
}

bool take_save_request() { return g_save_requested.exchange(false); }

void clear_signal_flags() {
  g_stop_signal.store(0);
  g_interrupted.store(false);
  g_save_requested.store(false);
}

void throw_if_stopped(const char* doing) {
  const int signal = stop_signal();
  if (signal != 0)
    throw Interrupted(cat("stopped by signal ", signal, " while ", doing, "; run the same command to go on"));
}

}  // namespace gato
