#pragma once
#include <cstdint>
#include <map>
#include <string>

#include "gato/run/run_folder.h"

namespace gato::run {

/// The score of every step by which checkpoints are judged, higher being better (with `want_max` false the sign is
/// turned). `name` is a metric of metrics.jsonl such as "validation/loss", or "SUITE:WHAT" of scores.jsonl, WHAT being
/// mean_score, tasks_at_50 or a task's id for its score. Steps without it are left out, as are values that are not
/// finite. Missing files give none.
[[nodiscard]] std::map<int64_t, double> scores_by_step(const RunFolder& folder, const std::string& name, bool want_max);

}  // namespace gato::run
