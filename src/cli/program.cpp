#include "program.h"

#include <unistd.h>

#include <iostream>
#include <new>
#include <nlohmann/json.hpp>

#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/core/signals.h"
#include "gato/core/version.h"

namespace gato::cli {
namespace {

std::vector<std::function<bool(const std::exception&, Failure&)>>& failure_rules() {
  static std::vector<std::function<bool(const std::exception&, Failure&)>> rules;
  return rules;
}

}  // namespace

void add_failure_rule(std::function<bool(const std::exception&, Failure&)> rule) {
  failure_rules().push_back(std::move(rule));
}

Failure describe_current_exception() {
  try {
    throw;
  } catch (const ConfigError& error) {
    return {kUsage, error.what()};
  } catch (const Interrupted& error) {
    return {kPreempted, error.what()};
  } catch (const PeerError& error) {
    return {kPeerLost, error.what()};
  } catch (const NoProgressError& error) {
    return {kNoProgress, error.what()};
  } catch (const std::bad_alloc&) {
    return {kFailed, "out of memory; use fewer rows per step (train.micro_batch_rows) or a smaller model"};
  } catch (const std::exception& error) {
    Failure failure{kFailed, error.what()};
    for (const auto& rule : failure_rules()) {
      if (rule(error, failure)) break;
    }
    return failure;
  } catch (...) {
    return {kFailed, "an unknown error"};
  }
}

std::vector<std::string> base_libraries() {
  return {cat("gato ", version()), compiler_version(), cat("CLI11 ", CLI11_VERSION),
          cat("nlohmann-json ", NLOHMANN_JSON_VERSION_MAJOR, ".", NLOHMANN_JSON_VERSION_MINOR, ".",
              NLOHMANN_JSON_VERSION_PATCH)};
}

std::vector<std::string> command_line(int argc, char** argv) { return {argv, argv + argc}; }

int run_program(int argc, char** argv, const std::string& description, const std::vector<std::string>& libraries,
                const std::function<std::function<int()>(CLI::App&)>& setup) {
  CLI::App app(description);
  app.set_help_all_flag("--help-all", "Help of all subcommands");
  app.set_version_flag("--version", join(libraries, "\n"));
  app.option_defaults()->always_capture_default();
  std::string level = "info";
  app.add_option("--log-level", level, "debug, info, warning, error or off");
  try {
    const std::function<int()> work = setup(app);
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      return app.exit(error) == 0 ? kDone : kUsage;
    }
    log::set_level(log::parse_level(level));
    install_signal_handlers();
    return work();
  } catch (...) {
    const Failure failure = describe_current_exception();
    std::cout.flush();
    std::cerr << (failure.exit_code == kPreempted ? "" : "error: ") << failure.message << "\n";
    if (failure.exit_code == kPeerLost)
      ::_exit(kPeerLost);  // what libraries still want to tell the lost process may hang
    return failure.exit_code;
  }
}

}  // namespace gato::cli
