#pragma once
#include "gato/core/file.h"

namespace gato::eval {

/// Writes `<run>/report/index.html`: the newest evaluation of every suite in the run folder with intervals, domains and
/// tasks, scores over training, learning curves, jobs that are not done, scores that others published, rollouts,
/// answers and texts. Nothing is loaded from elsewhere. Where pictures are few all is in that one file; where they are
/// many every domain has a page and pictures are files in `<run>/report/media/`, as MP4 too where ffmpeg is at hand.
/// Returns the path of the first page. Throws ConfigError when `run` is no run folder, DataError for damaged results.
Path write_report(const Path& run);

}  // namespace gato::eval
