#include <torch/version.h>

#include <iostream>

#include "gato/core/error.h"
#include "gato/core/file.h"
#include "gato/core/log.h"
#include "gato/train/trainer.h"
#include "gato_train/replay.h"
#include "program.h"

namespace gato::cli {
namespace {

struct Arguments {
  std::vector<std::string> configs, overrides;
  bool check = false, print_config = false, documented = false;
};

int train_or_check(const Arguments& arguments, const std::vector<std::string>& command) {
  const ConfigNode node = load_config(arguments.configs, arguments.overrides);
  auto config = read_config<train::TrainingConfig>(node);
  if (config.run.dir.empty()) {
    config.run.dir =
        (Path("runs") / (arguments.configs.empty() ? "unnamed" : Path(arguments.configs.back()).stem().string()))
            .string();
  }
  if (arguments.print_config) {
    std::cout << dump_config(config, &node, arguments.documented);
    return kDone;
  }
  if (arguments.check) {
    std::cout << "configuration: fine; run folder: " << config.run.dir << "\n" << train::check_report(config);
    return kDone;
  }
  const train::TrainingOutcome outcome = train::train(config, command);
  log::info("train", outcome.finished ? "finished" : "stopped by train.max_minutes", " at step ", outcome.step,
            " after ", format_seconds(outcome.seconds), " (", format_count(outcome.tokens_per_second),
            " tokens/s); run folder ", config.run.dir);
  return outcome.finished ? kDone : kPreempted;
}

int program(int argc, char** argv) {
  std::vector<std::string> libraries = base_libraries();
  libraries.emplace_back("LibTorch " TORCH_VERSION);
  add_failure_rule([](const std::exception& error, Failure& failure) {
    if (dynamic_cast<const train::DivergedError*>(&error) == nullptr) return false;
    failure.exit_code = kDiverged;
    return true;
  });
  return run_program(
      argc, argv, "Trains a generalist agent, or goes on with a run: the same command again continues.", libraries,
      [&](CLI::App& app) -> std::function<int()> {
        auto arguments = std::make_shared<Arguments>();
        app.add_option("--config", arguments->configs, "YAML file; may be given several times, later ones win")
            ->allow_extra_args(false)
            ->check(CLI::ExistingFile);
        app.add_flag("--check", arguments->check,
                     "Parse, open the data, print parameters, memory and tokens; train nothing");
        app.add_flag("--print-config", arguments->print_config, "Print every setting and where it came from");
        app.add_flag("--describe", arguments->documented, "With --print-config: also what every setting means");
        app.add_option("overrides", arguments->overrides, "Settings as key.path=value");
        app.allow_extras(false);
        app.require_subcommand(0, 1);
        const auto replay = add_replay(app);
        return [arguments, replay, command = command_line(argc, argv)] {
          const int code = replay();
          return code >= 0 ? code : train_or_check(*arguments, command);
        };
      });
}

}  // namespace
}  // namespace gato::cli

int main(int argc, char** argv) { return gato::cli::program(argc, argv); }
