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

/// Works on a run's evaluation queue until the run is finished and drained (exit code 0) or a signal asks to end (75).
int watch(const WatchArguments& arguments);

}  // namespace gato::cli
