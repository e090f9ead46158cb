#include "gato/eval/report.h"

#include <algorithm>
#include <chrono>
#include <ctime>
#include <set>

#include "film.h"
#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/core/version.h"
#include "gato/env/suite.h"
#include "gato/run/evaluation_queue.h"
#include "gato/run/run_folder.h"
#include "html.h"
#include "report_page.h"
#include "report_parts.h"

namespace gato::eval {
namespace {

/// Pictures of up to this many bytes, of up to this many tasks, are put into the one page; more become files that are
/// loaded as they are seen, on a page per domain.
constexpr uint64_t kMostEmbedded = uint64_t{6} << 20;
constexpr size_t kMostTasksOnOnePage = 80;
/// A film takes ffmpeg about a quarter of a second: of more animations than these none is made.
constexpr size_t kMostFilms = 100;

using Links = std::vector<std::pair<std::string, std::string>>;

/// All that is in the report.
struct ReportData {
  std::string name;
  std::vector<Evaluation> evaluations;
  std::vector<run::ScoreLine> scores;
  run::Metrics metrics;
  JobsReport jobs;
  std::vector<run::PublishedScores> published;
  std::string config;
};

std::vector<Evaluation> newest_evaluations(const run::RunFolder& run) {
  std::map<std::string, Evaluation> by_suite;
  if (!std::filesystem::is_directory(run.results_path())) return {};
  for (const auto& entry : std::filesystem::directory_iterator(run.results_path())) {
    const Path file = entry.path() / "summary.json";
    if (!std::filesystem::exists(file)) continue;
    run::Summary summary = run::parse_summary(read_file(file, uint64_t{64} << 20), file.string());
    auto& kept = by_suite[summary.suite];
    if (kept.folder.empty() || kept.summary.step < summary.step) kept = {entry.path(), std::move(summary), {}};
  }
  std::vector<Evaluation> evaluations;
  for (auto& [suite, evaluation] : by_suite) {
    evaluation.media = read_media(evaluation.folder);
    evaluations.push_back(std::move(evaluation));
  }
  return evaluations;
}

JobsReport jobs_of(const Path& run) {
  JobsReport report;
  if (!std::filesystem::is_directory(run::RunFolder(run).queue_path())) return report;
  run::EvaluationQueue queue(run);
  for (run::QueuedBatch* batch : queue.all_batches()) {
    for (size_t j = 0; j < batch->batch().jobs.size(); ++j) {
      const run::JobStatus status = batch->status(j);
      if (status.state == run::JobState::kDone) {
        ++report.done;
        continue;
      }
      JobLine line{batch->name(), j, std::string(run::job_state_name(status.state)), {}, status.attempts, ""};
      for (const run::JobPart& part : batch->batch().jobs[j].parts) line.tasks.push_back(part.task.task);
      if (!status.reasons.empty()) line.reason = status.reasons.back();
      report.open.push_back(std::move(line));
    }
  }
  std::stable_sort(report.open.begin(), report.open.end(),
                   [](const JobLine& a, const JobLine& b) { return (a.state == "failed") > (b.state == "failed"); });
  return report;
}

/// Published scores are an addition: a damaged table of them is left out with a warning.
std::vector<run::PublishedScores> published() {
  try {
    return run::read_published(Path(env::data_root()) / "data" / "published");
  } catch (const Error& error) {
    log::warning("eval", error.what(), "; published scores are not in the report");
    return {};
  }
}

ReportData gather(const run::RunFolder& run) {
  ReportData data;
  data.name = std::filesystem::absolute(run.root() / ".").lexically_normal().parent_path().filename().string();
  data.evaluations = newest_evaluations(run);
  data.scores = run::read_scores(run.scores_path());
  data.metrics = run::read_metrics(run.metrics_path());
  data.jobs = jobs_of(run.root());
  data.published = published();
  data.config = read_file(run.config_path(), uint64_t{4} << 20);
  return data;
}

std::string now_text() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[40];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M UTC", &parts);
  return text;
}

std::set<std::string> domains_of(const run::Summary& summary) {
  std::set<std::string> domains;
  for (const auto& [task, line] : summary.tasks) domains.insert(domain_of_task(task));
  return domains;
}

/// The pages of one evaluation's domains; without any, all is on the first page.
class Pages {
 public:
  Pages(const Evaluation& evaluation, bool has_pages) {
    const run::Summary& summary = evaluation.summary;
    for (const std::string& domain : domains_of(summary)) {
      if (has_pages) pages_[domain] = slug(cat(summary.suite, ".", domain)) + ".html";
    }
    for (const auto& [task, line] : summary.tasks) {
      if (has_pages) addresses_[task] = cat(pages_[domain_of_task(task)], "#", slug(task));
      if (!has_pages && evaluation.media.contains(task)) addresses_[task] = "#" + slug(task);
    }
  }
  [[nodiscard]] const std::map<std::string, std::string>& of_domains() const { return pages_; }
  [[nodiscard]] const std::map<std::string, std::string>& addresses() const { return addresses_; }

 private:
  std::map<std::string, std::string> pages_, addresses_;
};

class Report {
 public:
  Report(const run::RunFolder& run, const ReportData& data)
      : data_(data),
        folder_(run.report_path().parent_path()),
        has_pages_(media_bytes() > kMostEmbedded || tasks() > kMostTasksOnOnePage),
        shelf_(folder_, !has_pages_, animations() <= kMostFilms && can_make_films()) {}

  void write(const Path& index) {
    for (const Evaluation& evaluation : data_.evaluations) {
      for (const auto& [task, items] : evaluation.media) {
        for (const MediaItem& item : items) shelf_.ask(evaluation.folder, evaluation.summary.suite, item);
      }
    }
    shelf_.make();
    std::set<std::string> written;
    for (const Evaluation& evaluation : data_.evaluations) {
      const Pages pages(evaluation, has_pages_);
      for (const auto& [domain, page] : pages.of_domains()) {
        write_file_atomic(folder_ / page, domain_page(evaluation, domain));
        written.insert(page);
      }
    }
    write_file_atomic(index, index_page());
    remove_other_pages(index.filename().string(), written);
  }

 private:
  [[nodiscard]] uint64_t media_bytes() const {
    uint64_t bytes = 0;
    for (const Evaluation& evaluation : data_.evaluations) bytes += bytes_of_media(evaluation.folder, evaluation.media);
    return bytes;
  }

  [[nodiscard]] size_t animations() const {
    size_t animations = 0;
    for (const Evaluation& evaluation : data_.evaluations) {
      for (const auto& [task, items] : evaluation.media) {
        animations += static_cast<size_t>(
            std::count_if(items.begin(), items.end(), [](const MediaItem& item) { return item.frames > 1; }));
      }
    }
    return animations;
  }

  [[nodiscard]] size_t tasks() const {
    size_t tasks = 0;
    for (const Evaluation& evaluation : data_.evaluations) tasks += evaluation.summary.tasks.size();
    return tasks;
  }

  [[nodiscard]] static std::string title_of(const Evaluation& evaluation) {
    return cat("Suite ", evaluation.summary.suite, ", checkpoint ", evaluation.summary.checkpoint);
  }

  [[nodiscard]] std::string domain_page(const Evaluation& evaluation, const std::string& domain) const {
    const Pages pages(evaluation, true);
    Links links = {{"index.html", "Overview"}};
    for (const auto& [other, page] : pages.of_domains()) links.emplace_back(page, other);
    std::string body = task_table(evaluation.summary, domain, pages.addresses());
    body +=
        cat("<p class='sub'>The first rollout, and those with the highest and the lowest return.</p><div "
            "class='tasks'>",
            task_media(evaluation, domain, shelf_), "</div>");
    return html_page(cat(domain, " – ", data_.name), title_of(evaluation), links, body);
  }

  /// Of many domains the curves are folded away.
  [[nodiscard]] std::string charts(const run::Summary& summary) const {
    constexpr size_t kMostInSight = 6;
    const ScoreCurves curves = score_curves(data_.scores, summary.suite, data_.metrics);
    const bool in_sight = curves.num_domains <= kMostInSight;
    const std::string first = cat(score_profile(summary), curves.mean, in_sight ? curves.domains : "");
    const std::string all = first.empty() ? "" : cat("<div class='charts'>", first, "</div>");
    if (in_sight) return all;
    return all + cat("<details><summary>Scores over training of ", curves.num_domains,
                     " domains</summary><div class='charts'>", curves.domains, "</div></details>");
  }

  [[nodiscard]] std::string evaluation_part(const Evaluation& evaluation) const {
    const Pages pages(evaluation, has_pages_);
    const run::Summary& summary = evaluation.summary;
    std::string body = cat("<h2 id='", slug("suite " + summary.suite), "'>", escape_html(title_of(evaluation)), "</h2>",
                           summary_tiles(summary),
                           "<h3>Domains</h3><p class='sub'>0 is random play and 100 the expert of the data; lines and "
                           "bands are 95 % intervals. "
                           "Scores are means over tasks; tasks without a score enter none.</p>",
                           domain_table(summary, pages.of_domains()), charts(summary));
    body += cat("<h3 id='", slug("tasks " + summary.suite),
                "'>Tasks</h3><p class='sub'>Intervals: bootstrap over rollouts, Wilson’s for answers and success.</p>",
                task_table(summary, "", pages.addresses()));
    if (has_pages_) return body;
    const std::string media = task_media(evaluation, "", shelf_);
    return media.empty() ? body
                         : cat(body,
                               "<h2>Rollouts, answers and texts</h2><p class='sub'>The first rollout, and those "
                               "with the highest and the lowest return.</p><div class='tasks'>",
                               media, "</div>");
  }

  [[nodiscard]] std::string index_page() const {
    Links links;
    std::string body;
    for (const Evaluation& evaluation : data_.evaluations) {
      links.emplace_back("#" + slug("suite " + evaluation.summary.suite), "Suite " + evaluation.summary.suite);
      links.emplace_back("#" + slug("tasks " + evaluation.summary.suite), "Tasks");
      body += evaluation_part(evaluation);
    }
    if (data_.evaluations.empty()) {
      body += "<p>No evaluation yet: run <code>gato-eval --checkpoint RUN --suite NAME</code>.</p>";
    }
    const auto add = [&](const std::string& id, const std::string& title, const std::string& words,
                         const std::string& part) {
      if (part.empty()) return;
      links.emplace_back("#" + id, title);
      body += cat("<h2 id='", id, "'>", title, "</h2><p class='sub'>", words, "</p>", part);
    };
    add("jobs", "Evaluation jobs", "Of the run’s queue: those that are not done, with why.", job_table(data_.jobs));
    add("published", "Published scores",
        "What others report, from their own tables. Protocols and versions of environments differ: none of these is "
        "the "
        "same measurement as ours.",
        published_scores(data_.published, data_.evaluations));
    add("learning", "Learning curves", "Loss per label in nats, by domain.", loss_curves(data_.metrics));
    add("configuration", "Configuration", "Of the last start of training.",
        cat("<details><summary>config.yaml</summary><pre tabindex='0'>", escape_html(data_.config),
            "</pre></details>"));
    return html_page(data_.name, cat("gato ", version(), ", written ", now_text()), links, body);
  }

  /// Pages of domains that earlier reports left.
  void remove_other_pages(const std::string& index, const std::set<std::string>& written) const {
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      const std::string name = entry.path().filename().string();
      if (entry.path().extension() != ".html" || name == index || written.contains(name)) continue;
      std::error_code ignored;
      std::filesystem::remove(entry.path(), ignored);
    }
  }

  const ReportData& data_;
  Path folder_;
  bool has_pages_;
  MediaShelf shelf_;
};

}  // namespace

Path write_report(const Path& folder) {
  const run::RunFolder run(folder);
  if (!run.exists())
    throw ConfigError(
        cat(folder.string(), " is no run folder: it has no config.yaml; give the folder that gato-train made"));
  const ReportData data = gather(run);
  Report(run, data).write(run.report_path());
  return run.report_path();
}

}  // namespace gato::eval
