#pragma once
#include "gato/core/file.h"

namespace gato::eval {

/// Writes `<run>/report/index.html`: one page that holds everything (no file or network beside it): learning curves per
/// domain, a bar per task against expert and random, the table of scores, pictures with their captions and answers, and
/// an animation of a rollout per task, from the newest evaluation of every suite in the run folder. Returns its path.
/// Throws ConfigError when `run` is no run folder, DataError for damaged results.
Path write_report(const Path& run);

}  // namespace gato::eval
