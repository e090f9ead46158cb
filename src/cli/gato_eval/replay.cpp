#include "replay.h"

#include <iostream>
#include <memory>

#include "cli/program.h"
#include "gato/core/text.h"
#include "gato/core/threads.h"
#include "gato/eval/job_player.h"

namespace gato::cli {
namespace {

struct Arguments {
  std::string result, checkpoint, out;
  eval::ReplayOptions options;
  int threads = 0;
};

int replay(Arguments& arguments) {
  set_thread_budget(arguments.threads);
  arguments.options.result = arguments.result;
  arguments.options.checkpoint = arguments.checkpoint;
  arguments.options.out = arguments.out;
  const eval::ReplayOutcome outcome = eval::replay_result(arguments.options);
  for (const std::string& line : outcome.differences) std::cout << line << "\n";
  std::cout << outcome.recorded.task << " at " << outcome.recorded.checkpoint << ": "
            << (outcome.differences.empty()
                    ? cat("all ", outcome.again.rollouts.size(), " rollouts are as recorded")
                    : cat(outcome.differences.size(), " differences in ", outcome.again.rollouts.size(), " rollouts"))
            << "\n";
  if (!outcome.animation.empty()) std::cout << "animation: " << outcome.animation.string() << "\n";
  return outcome.differences.empty() ? kDone : kFailed;
}

}  // namespace

std::function<int()> add_replay(CLI::App& app) {
  auto arguments = std::make_shared<Arguments>();
  auto* verb =
      app.add_subcommand("replay",
                         "Play the rollouts of a result again as it was played, say whether they are the same, "
                         "and write one as a GIF");
  verb->add_option("RESULT", arguments->result, "File in a folder of results, TASK.shard-K.json")
      ->required()
      ->check(CLI::ExistingFile);
  verb->add_option("--checkpoint", arguments->checkpoint, "Where the checkpoint is now; default: in the run folder");
  verb->add_option("--out", arguments->out, "Folder of the animation; default: the working folder");
  verb->add_option("--rollout", arguments->options.rollout, "Which one is animated, from 0")
      ->check(CLI::Range(0, 1000000));
  verb->add_option("--device", arguments->options.device, "auto, cpu, cuda or cuda:N")->capture_default_str();
  verb->add_option("--threads", arguments->threads, "0: all processors")->check(CLI::Range(0, 4096));
  return [=] { return verb->parsed() ? replay(*arguments) : -1; };
}

}  // namespace gato::cli
