#include <algorithm>

#include "gato/core/error.h"
#include "gato/core/excerpt.h"
#include "gato/core/log.h"
#include "gato/core/text.h"
#include "gato/run/evaluation_worker.h"
#include "gato/run/tensorboard.h"
#include "run/clock.h"
#include "run/job_results.h"

namespace gato::run {
namespace {

constexpr size_t kMaxReasonBytes = 600;

/// Results of one job, and why one that should be there cannot be had.
struct JobResults {
  std::vector<TaskResult> results;
  std::string problem;
};

JobResults results_of(const Path& folder, const JobBatch& batch, const Job& job) {
  JobResults found;
  for (const JobPart& part : job.parts) {
    const bool may_be_missing = part.is_text();  // checkpoints need not carry its documents
    try {
      found.results.push_back(read_part(folder, batch, job, part));
    } catch (const IoError& error) {
      if (!may_be_missing || error.error_number() != ENOENT) found.problem = error.what();
    } catch (const DataError& error) {
      found.problem = error.what();
    }
  }
  return found;
}

/// The batch's own results: others may lie in the folder from an evaluation divided or set otherwise. Nothing when a
/// done job has to be done again for them.
std::optional<std::vector<TaskResult>> take_results(const RunFolder& run, QueuedBatch& batch, const std::string& who) {
  const JobBatch& jobs = batch.batch();
  const Path folder = run.results_path(jobs.step, jobs.suite);
  std::error_code ignored;
  // Listing a folder makes a network share ask its server for names that it remembers as missing.
  static_cast<void>(std::filesystem::directory_iterator(folder, ignored));
  std::vector<TaskResult> results;
  bool is_whole = true;
  for (size_t job = 0; job < jobs.jobs.size(); ++job) {
    JobResults found = results_of(folder, jobs, jobs.jobs[job]);
    if (!found.problem.empty() && batch.status(job).state == JobState::kDone) {
      log::warning("eval", batch.name(), ", job ", job, " is to be done again: ", found.problem);
      const std::string reason = cat("its result cannot be used: ", found.problem);
      batch.add(job, {JobEventKind::kLost, who, excerpt(reason, kMaxReasonBytes), seconds_since_1970()});
      is_whole = is_whole && batch.status(job).state == JobState::kFailed;
    }
    std::move(found.results.begin(), found.results.end(), std::back_inserter(results));
  }
  if (!is_whole || !batch.is_finished()) return std::nullopt;
  return results;
}

bool is_recorded(const RunFolder& folder, const Summary& summary) {
  const std::vector<ScoreLine> lines = read_scores(folder.scores_path());
  return std::any_of(lines.begin(), lines.end(), [&](const ScoreLine& line) { return line.summary == summary; });
}

/// All scores of a suite so far, by step, in a new file that replaces what readers knew.
void write_tensorboard(const RunFolder& folder, const std::string& suite) {
  TensorBoardWriter writer(folder.tensorboard_path("eval@" + suite), 0, 0);
  for (const ScoreLine& line : read_scores(folder.scores_path())) {
    if (line.summary.suite != suite) continue;
    MetricValues values;
    for (const auto& [task, summary] : line.summary.tasks) {
      if (summary.score) values["score/task/" + task] = *summary.score;
      if (summary.success_rate) values["success/" + task] = *summary.success_rate;
      if (summary.loss) values["loss/" + task] = summary.loss->nats_per_token;
    }
    for (const auto& [domain, summary] : line.summary.domains) values["score/" + domain] = summary.score;
    if (line.summary.mean_score) values["score/mean"] = *line.summary.mean_score;
    values["score/tasks_at_50"] = static_cast<double>(line.summary.tasks_at_50);
    writer.write(line.summary.step, values);
  }
}

}  // namespace

bool finish_batch(EvaluationQueue& queue, QueuedBatch& batch, const std::string& who) {
  batch.refresh();
  if (batch.is_replaced() || !batch.is_finished()) return false;
  const RunFolder& folder = queue.folder();
  const JobBatch& jobs = batch.batch();
  const auto results = take_results(folder, batch, who);
  if (!results || batch.is_replaced()) return false;
  if (!results->empty()) {
    const Summary summary = summarise_what_agrees(*results);
    for (const auto& [task, line] : summary.tasks) {
      if (line.rollouts == 0 && !line.note.empty()) log::warning("eval", batch.name(), ": ", task, ": ", line.note);
    }
    write_summary(folder.results_path(jobs.step, jobs.suite), summary);
    if (!is_recorded(folder, summary)) {
      append_scores(folder.scores_path(), summary);
      write_tensorboard(folder, jobs.suite);
    }
  }
  const bool closed = queue.close(batch);
  if (closed) log::info("eval", batch.name(), ": all ", jobs.jobs.size(), " jobs have ended");
  return closed;
}

}  // namespace gato::run
