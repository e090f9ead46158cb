#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "gato/core/file.h"
#include "gato/run/metrics.h"
#include "gato/run/published.h"
#include "gato/run/results.h"
#include "media.h"
#include "report_media.h"

/// Parts of the report's pages as HTML. Every text that comes from files is escaped here.
namespace gato::eval {

/// An evaluation that is shown: the newest of its suite.
struct Evaluation {
  Path folder;
  run::Summary summary;
  std::map<std::string, std::vector<MediaItem>> media;  ///< By task.
};

/// A job of the evaluation queue that is not done.
struct JobLine {
  std::string batch;  ///< step-00001000@SUITE
  size_t job = 0;
  std::string state;
  std::vector<std::string> tasks;
  int64_t attempts = 0;
  std::string reason;  ///< Of the last attempt.
};

/// The queue of a run.
struct JobsReport {
  int64_t done = 0;
  std::vector<JobLine> open;  ///< Failed ones first.
};

/// The part of a task's name before '/'.
[[nodiscard]] std::string domain_of_task(const std::string& task);

/// Numbers of a whole evaluation: mean, tasks scored, tasks at shares of the expert.
[[nodiscard]] std::string summary_tiles(const run::Summary& summary);
/// A line per domain; its name leads to its page, where it has one.
[[nodiscard]] std::string domain_table(const run::Summary& summary,
                                       const std::map<std::string, std::string>& page_of_domain);
/// A chart of how many tasks are at or above every share of the expert; "" for fewer than two with a score.
[[nodiscard]] std::string score_profile(const run::Summary& summary);
/// A line per task of `domain` ("": of all) with bar, interval and returns; a name leads to the task's address. Tables
/// of many tasks can be searched.
[[nodiscard]] std::string task_table(const run::Summary& summary, const std::string& domain,
                                     const std::map<std::string, std::string>& address_of_task);
/// Rollouts, captions and answers, and texts of the tasks of a domain ("": of all); "" where nothing was kept.
[[nodiscard]] std::string task_media(const Evaluation& evaluation, const std::string& domain, const MediaShelf& shelf);

/// Scores over the tokens that checkpoints of a suite were trained on, as charts of the mean and of every domain; empty
/// for fewer than two checkpoints.
struct ScoreCurves {
  std::string mean, domains;
  size_t num_domains = 0;
};
[[nodiscard]] ScoreCurves score_curves(const std::vector<run::ScoreLine>& scores, const std::string& suite,
                                       const run::Metrics& metrics);
/// Loss by domain over tokens; "" where there is none.
[[nodiscard]] std::string loss_curves(const run::Metrics& metrics);

/// Scores that others published, beside ours where a task or domain is the same or near; "" without any.
[[nodiscard]] std::string published_scores(const std::vector<run::PublishedScores>& published,
                                           const std::vector<Evaluation>& evaluations);
/// "" when there was no queue.
[[nodiscard]] std::string job_table(const JobsReport& jobs);

}  // namespace gato::eval
