#pragma once
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <exception>
#include <functional>
#include <system_error>

namespace gato::test {

/// How a child process ended.
struct ChildEnd {
  int exit_code = -1;  ///< -1 when a signal ended it.
  int signal = 0;
};

/// Exit code of a child whose function threw.
constexpr int kChildThrew = 99;

inline pid_t start_child(const std::function<int()>& body) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (child > 0) return child;
  int code = kChildThrew;
  try {
    code = body();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "child: %s\n", error.what());
  }
  ::_exit(code);  // no destructors and exit handlers of the parent's objects
}

inline ChildEnd wait_for_child(pid_t child) {
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) return {-1, WTERMSIG(status)};
  return {WEXITSTATUS(status), 0};
}

/// Runs `body` in a forked process, for what would end or spoil this one, and waits; the exit code is what `body`
/// returns. Call it before the test starts threads.
inline ChildEnd run_in_child(const std::function<int()>& body) { return wait_for_child(start_child(body)); }

}  // namespace gato::test
