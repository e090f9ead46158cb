#pragma once
#include <functional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

/// What all programs share: arguments, signals, exit codes.
namespace gato::cli {

/// Exit codes (docs/programs.md).
enum ExitCode : int {
  kDone = 0,
  kFailed = 1,
  kUsage = 2,
  kPreempted = 75,  ///< Everything is saved; the same command goes on.
  kPeerLost = 76,   ///< Another process of the run died, stopped or cannot be reached.
  kDiverged = 77,
  kNoProgress = 93,  ///< The same step failed again and again: do not restart.
};

/// A program: `setup` declares options and subcommands on the app and returns what to run after parsing, which returns
/// the exit code. Handles --version, --log-level, signals, and turns every exception into one clear sentence and an
/// exit code. `libraries` are printed by --version.
int run_program(int argc, char** argv, const std::string& description, const std::vector<std::string>& libraries,
                const std::function<std::function<int()>(CLI::App&)>& setup);

/// The whole command line, for records.
[[nodiscard]] std::vector<std::string> command_line(int argc, char** argv);

/// Exit code of the exception now being handled, and its message. To be called inside a catch block.
struct Failure {
  int exit_code;
  std::string message;
};
[[nodiscard]] Failure describe_current_exception();

/// Lets other libraries' exceptions have an exit code of their own (the trainer's DivergedError). First registered,
/// first asked.
void add_failure_rule(std::function<bool(const std::exception&, Failure&)> rule);

/// Versions of the libraries that programs without LibTorch use.
[[nodiscard]] std::vector<std::string> base_libraries();

}  // namespace gato::cli
