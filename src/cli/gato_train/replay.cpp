#include "replay.h"

#include <iostream>
#include <memory>

#include "cli/program.h"
#include "gato/train/trainer.h"

namespace gato::cli {

std::function<int()> add_replay(CLI::App& app) {
  struct Arguments {
    std::string run;
    int64_t step = 0;
  };
  auto arguments = std::make_shared<Arguments>();
  auto* verb = app.add_subcommand(
      "replay", "Run one step of a run again from the checkpoint before it, and compare; changes nothing");
  verb->add_option("--run", arguments->run, "Run folder")->required()->check(CLI::ExistingDirectory);
  verb->add_option("--step", arguments->step, "Step, counted from 1")->required()->check(CLI::PositiveNumber);
  return [verb, arguments] {
    if (!verb->parsed()) return -1;
    const train::Replay replay = train::replay(arguments->run, arguments->step);
    std::cout << replay.report;
    if (replay.compared == 0) std::cout << "steps.csv has none of these steps: nothing to compare with\n";
    return static_cast<int>(replay.same_numbers && replay.same_parameters ? kDone : kFailed);
  };
}

}  // namespace gato::cli
