#include "watch.h"

#include <functional>

#include "cli/program.h"
#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/eval/job_player.h"

namespace gato::cli {

int watch(const WatchArguments& arguments) {
  const run::RunFolder folder(arguments.run);
  if (!std::filesystem::is_directory(folder.root())) {
    throw ConfigError(cat("--run ", arguments.run, " is no folder; give the run folder of gato-train"));
  }
  eval::JobPlayer player(arguments.run, {arguments.device, arguments.cuda_graph});
  const run::WorkOutcome outcome = run::work(folder, std::ref(player), arguments.options);
  log::info("eval", outcome.done, outcome.done == 1 ? " job" : " jobs", " done, ", outcome.failed, " failed",
            outcome.drained ? "; nothing is left to do" : "");
  if (outcome.drained || arguments.options.max_jobs > 0) return outcome.failed > 0 ? kFailed : kDone;
  return kPreempted;
}

}  // namespace gato::cli
