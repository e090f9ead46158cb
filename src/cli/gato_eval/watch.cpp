#include "watch.h"

#include <functional>

#include "cli/program.h"
#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/eval/job_player.h"

namespace gato::cli {

namespace {

int exit_code(const run::WorkOutcome& outcome) {
  if (outcome.end == run::WorkEnd::kStopped) return kPreempted;
  return outcome.left_undone > 0 ? kFailed : kDone;
}

}  // namespace

int watch(const WatchArguments& arguments) {
  const run::RunFolder folder(arguments.run);
  if (!std::filesystem::is_directory(folder.root())) {
    throw ConfigError(cat("--run ", arguments.run, " is no folder; give the run folder of gato-train"));
  }
  eval::JobPlayer player(arguments.run, {arguments.device, arguments.cuda_graph});
  const run::WorkOutcome outcome = run::work(folder, std::ref(player), arguments.options);
  log::info("eval", outcome.done, outcome.done == 1 ? " job" : " jobs", " done, ", outcome.failed, " failed",
            outcome.end == run::WorkEnd::kDrained ? "; nothing is left to do" : "");
  return exit_code(outcome);
}

}  // namespace gato::cli
