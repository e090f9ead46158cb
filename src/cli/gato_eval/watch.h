#pragma once
#include <string>

#include "gato/run/evaluation_worker.h"

namespace gato::cli {

struct WatchArguments {
  std::string run;
  std::string device = "auto";
  bool cuda_graph = false;
  run::WorkOptions options;
};

/// Works on a run's evaluation queue. Exit code 0 when it ended by itself (the run is finished and drained, or so many
/// jobs as were asked for are done), 1 when a job that failed here is left undone then, 75 when a signal asked to end.
int watch(const WatchArguments& arguments);

}  // namespace gato::cli
