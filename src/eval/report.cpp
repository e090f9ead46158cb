#include "gato/eval/report.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <ctime>
#include <map>
#include <set>
#include <vector>

#include "gato/checkpoint/checkpoint.h"
#include "gato/core/error.h"
#include "gato/core/version.h"
#include "gato/run/metrics.h"
#include "gato/run/results.h"
#include "gato/run/run_folder.h"
#include "html.h"
#include "media.h"

namespace gato::eval {
namespace {

constexpr const char* kStyle = R"(
:root{--ink:#1d2730;--soft:#5d6b78;--line:#dde3e8;--paper:#fff;--back:#f4f6f8;--accent:#2b6cb0}
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);font:15px/1.5 system-ui,"Segoe UI",Helvetica,Arial,sans-serif}
main{max-width:1080px;margin:0 auto;padding:28px 20px 60px}h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:34px 0 12px}
.sub{color:var(--soft);margin:0 0 18px}.tiles{display:flex;flex-wrap:wrap;gap:12px}.tile,.card,.chart,.panel{background:var(--paper);border:1px solid var(--line);border-radius:10px}
.tile{padding:12px 18px;min-width:150px}.tile b{display:block;font-size:24px}.tile span{color:var(--soft);font-size:13px}.panel{padding:16px;overflow-x:auto}
.grid-of{display:grid;gap:14px;grid-template-columns:repeat(auto-fill,minmax(310px,1fr))}.chart{margin:0;padding:12px}.chart figcaption{display:flex;gap:12px;flex-wrap:wrap;align-items:baseline;font-size:13px}
.key{color:var(--soft)}.key i{display:inline-block;width:10px;height:10px;border-radius:2px;margin-right:5px}svg{width:100%;height:auto;display:block}
.grid{stroke:var(--line)}.mark{stroke:#8aa0b3;stroke-dasharray:4 3}.whisker{stroke:#1d2730;stroke-width:1.6}.tick{font-size:11px;fill:var(--soft)}.name,.value{font-size:13px;fill:var(--ink)}
table{border-collapse:collapse;width:100%;font-size:13px}th,td{text-align:right;padding:5px 7px;border-bottom:1px solid var(--line);white-space:nowrap}th:first-child,td:first-child{text-align:left}th{color:var(--soft);font-weight:600}
.cards{display:grid;gap:14px;grid-template-columns:repeat(auto-fill,minmax(215px,1fr))}.card{padding:10px;font-size:13px}.card .view{margin:0 auto 8px;border-radius:6px;overflow:hidden;image-rendering:pixelated;background-repeat:no-repeat}
.card b{display:block;overflow-wrap:anywhere}.right{color:#237a59}.wrong{color:#b23b25}.card small{color:var(--soft)}.find{display:flex;gap:10px;align-items:center;margin:0 0 10px}.find input,.find select{font:inherit;padding:4px 8px;border:1px solid var(--line);border-radius:6px}.scores th{cursor:pointer}details{margin-top:10px}pre{background:#f0f3f6;padding:12px;border-radius:8px;overflow-x:auto;font-size:12.5px}
)";

// Steps through the frames of every animation; a click holds or goes on.
constexpr const char* kScript = R"(
for(const v of document.querySelectorAll('.view')){const n=+v.dataset.frames,c=+v.dataset.columns,w=+v.dataset.width,h=+v.dataset.height;
if(n<2)continue;let i=0,on=true;v.title='click to hold';v.onclick=()=>{on=!on};
setInterval(()=>{if(!on)return;i=(i+1)%n;v.style.backgroundPosition=(-(i%c)*w)+'px '+(-Math.floor(i/c)*h)+'px'},70)}
for(const p of document.querySelectorAll('.scores')){const t=p.querySelector('table'),rows=[...t.rows].slice(1),q=p.querySelector('input'),d=p.querySelector('select');
const show=()=>{const words=q.value.toLowerCase().split(/\s+/);let n=0;for(const r of rows){const on=(!d.value||r.dataset.domain===d.value)&&words.every(w=>r.cells[0].textContent.toLowerCase().includes(w));
r.hidden=!on;n+=on}p.querySelector('output').textContent=n+' of '+rows.length};q.oninput=d.onchange=show;show();
const head=t.rows[0].cells;for(let c=0;c<head.length;c++){let up=c===0;head[c].title='click to sort';head[c].onclick=()=>{up=!up;const key=r=>{const x=parseFloat(r.cells[c].textContent);
return c===0||isNaN(x)?(c===0?r.cells[0].textContent:-Infinity):x};rows.sort((a,b)=>{const x=key(a),y=key(b);return(x<y?-1:x>y?1:0)*(up?1:-1)});for(const r of rows)t.tBodies[0].append(r)}}}
)";

std::string show(const std::optional<double>& value, int digits) { return value ? format_fixed(*value, digits) : "–"; }

/// The newest evaluation of every suite in the run folder.
struct Evaluation {
  Path folder;
  run::Summary summary;
};

std::vector<Evaluation> newest_evaluations(const run::RunFolder& run) {
  std::map<std::string, Evaluation> by_suite;
  if (!std::filesystem::is_directory(run.results_path())) return {};
  for (const auto& entry : std::filesystem::directory_iterator(run.results_path())) {
    const Path file = entry.path() / "summary.json";
    if (!std::filesystem::exists(file)) continue;
    run::Summary summary = run::parse_summary(read_file(file, uint64_t{64} << 20), file.string());
    auto& kept = by_suite[summary.suite];
    if (kept.folder.empty() || kept.summary.step < summary.step) kept = {entry.path(), std::move(summary)};
  }
  std::vector<Evaluation> evaluations;
  for (auto& [suite, evaluation] : by_suite) evaluations.push_back(std::move(evaluation));
  return evaluations;
}

std::string tile(const std::string& value, const std::string& label) {
  return cat("<div class='tile'><b>", escape_html(value), "</b><span>", escape_html(label), "</span></div>");
}

std::string tiles(const Evaluation& evaluation) {
  const run::Summary& summary = evaluation.summary;
  std::string out = "<div class='tiles'>";
  out += tile(show(summary.mean_score, 1), "mean score over domains, expert = 100");
  const auto scored = std::count_if(summary.tasks.begin(), summary.tasks.end(),
                                    [](const auto& task) { return task.second.score.has_value(); });
  if (summary.tasks_at.empty()) out += tile(cat(summary.tasks_at_50, " of ", scored), "tasks at 50 or above");
  for (const auto& [share, tasks] : summary.tasks_at) {
    out += tile(cat(tasks, " of ", scored), cat("tasks at ", share, " or above"));
  }
  for (const auto& [domain, line] : summary.domains)
    out += tile(format_fixed(line.score, 1), cat(domain, " (", line.tasks, line.tasks == 1 ? " task)" : " tasks)"));
  return out + "</div>";
}

std::string domain_of(const std::string& task) { return task.substr(0, task.find('/')); }

std::string bars_of(const run::Summary& summary, const std::string& domain) {
  std::vector<ScoreBar> bars;
  for (const auto& [task, line] : summary.tasks) {
    if (!line.score || (!domain.empty() && domain_of(task) != domain)) continue;
    const auto interval = line.ci95.value_or(std::pair{*line.score, *line.score});
    std::string note = cat(format_fixed(interval.first, 0), " – ", format_fixed(interval.second, 0));
    if (line.scoring == run::TaskScoring::kExactMatch) note += ", exactly right";
    bars.push_back({task, *line.score, interval.first, interval.second, note});
  }
  return bars.empty() ? "" : cat("<div class='panel'>", score_bars(bars), "</div>");
}

/// All bars at once where they fit on a screen or two, else a part to unfold for every domain.
std::string bars(const run::Summary& summary) {
  constexpr size_t kMostAtOnce = 40;
  if (summary.tasks.size() <= kMostAtOnce) return bars_of(summary, "");
  std::string out;
  for (const auto& [domain, line] : summary.domains) {
    out += cat("<details><summary>", escape_html(domain), ": ", format_fixed(line.score, 1), " over ", line.tasks,
               line.tasks == 1 ? " task" : " tasks", "</summary>", bars_of(summary, domain), "</details>");
  }
  return out;
}

/// Where a person finds tasks: words of their names, one domain, and headers that sort.
std::string finder(const run::Summary& summary) {
  std::set<std::string> domains;
  for (const auto& [task, line] : summary.tasks) domains.insert(domain_of(task));
  std::string options = "<option value=''>all domains</option>";
  for (const std::string& domain : domains) options += cat("<option>", escape_html(domain), "</option>");
  return cat("<div class='find'><input type='search' placeholder='find tasks'><select>", options,
             "</select><output></output></div>");
}

std::string score_table(const run::Summary& summary) {
  std::string out = cat("<div class='panel scores'>", finder(summary));
  out +=
      "<table><tr><th>task</th><th>score</th><th>95 % interval</th><th>mean "
      "return</th><th>expert</th><th>random</th>"
      "<th>success</th><th>exactly right</th><th>rollouts</th></tr>";
  for (const auto& [task, line] : summary.tasks) {
    std::string score = show(line.score, 1), interval = "–";
    if (line.ci95) interval = cat(format_fixed(line.ci95->first, 1), " – ", format_fixed(line.ci95->second, 1));
    if (line.loss) {
      score = cat(format_fixed(line.loss->nats_per_token, 3), " nats per token");
      interval = cat("unigram model ", format_fixed(line.loss->unigram_nats_per_token, 3));
    }
    out += cat("<tr data-domain=\"", escape_html(domain_of(task)), "\"><td>", escape_html(task),
               line.note.empty() ? "" : cat("<br><small>", escape_html(line.note), "</small>"), "</td><td>", score,
               "</td><td>", interval, "</td><td>", show(line.mean_return, 2), "</td><td>", show(line.expert_return, 2),
               "</td><td>", show(line.random_return, 2), "</td><td>", show(line.success_rate, 2), "</td><td>",
               show(line.exact_match, 2), "</td><td>", line.rollouts, "</td></tr>");
  }
  return out + "</table></div>";
}

std::map<int64_t, int64_t> tokens_at_steps(const run::Metrics& metrics) {
  std::map<int64_t, int64_t> tokens_at;
  for (const run::MetricPoint& point : metrics.points) tokens_at[point.step] = point.tokens;
  return tokens_at;
}

/// The score of every domain over the tokens that a checkpoint was trained on, for suites with several checkpoints.
std::string score_curves(const run::RunFolder& run, const std::string& suite) {
  constexpr std::array kColours = {"#2b6cb0", "#d07b2a", "#237a59", "#8a4fbf",
                                   "#b23b25", "#5d6b78", "#b0a02b", "#2ba8b0"};
  const std::map<int64_t, int64_t> tokens_at = tokens_at_steps(run::read_metrics(run.metrics_path()));
  std::map<std::string, std::vector<std::pair<double, double>>> points;
  size_t checkpoints = 0;
  for (const run::ScoreLine& line : run::read_scores(run.scores_path())) {
    const auto tokens = tokens_at.find(line.summary.step);
    if (line.summary.suite != suite || tokens == tokens_at.end()) continue;
    ++checkpoints;
    const auto x = static_cast<double>(tokens->second);
    for (const auto& [domain, score] : line.summary.domains) points[domain].emplace_back(x, score.score);
    if (line.summary.mean_score) points["mean over domains"].emplace_back(x, *line.summary.mean_score);
  }
  if (checkpoints < 2) return "";
  std::string charts;
  size_t number = 0;
  for (const auto& [name, curve] : points) {
    charts += line_chart(name, "tokens", {{"score", kColours[number++ % kColours.size()], true, curve}});
  }
  return cat("<h2>Scores over training</h2><div class='grid-of'>", charts, "</div>");
}

std::string learning_curves(const run::RunFolder& run) {
  const run::Metrics metrics = run::read_metrics(run.metrics_path());
  std::map<int64_t, int64_t> tokens_at = tokens_at_steps(metrics);
  const auto curve = [&](const std::string& name) {
    std::vector<std::pair<double, double>> points;
    for (const auto& [step, value] : metrics.series(name))
      points.emplace_back(static_cast<double>(tokens_at[step]), value);
    return points;
  };
  std::set<std::string> domains;
  const std::string prefix = "train/loss/";
  for (const std::string& name : metrics.names()) {
    if (name.rfind(prefix, 0) == 0) domains.insert(name.substr(prefix.size()));
  }
  if (domains.empty()) return "";
  std::string out =
      "<h2>Learning curves</h2><p class='sub'>Loss per label in nats, by domain.</p><div class='grid-of'>";
  for (const std::string& domain : domains) {
    out += line_chart(domain, "tokens",
                      {{"training", "#2b6cb0", false, curve(prefix + domain)},
                       {"validation", "#d07b2a", true, curve("validation/loss/" + domain)}});
  }
  return out + "</div>";
}

/// A picture or an animation whose longer side is about 190 pixels: small ones are enlarged by whole numbers, so that
/// pixels stay square.
std::string view_of(const MediaItem& item, const std::string& png) {
  constexpr double kSide = 190;
  const double fit = kSide / static_cast<double>(std::max(item.frame_width, item.frame_height));
  const double scale = fit > 1 ? std::floor(fit) : fit;
  const auto width = static_cast<int64_t>(std::lround(static_cast<double>(item.frame_width) * scale));
  const auto height = static_cast<int64_t>(std::lround(static_cast<double>(item.frame_height) * scale));
  const int64_t rows = (item.frames + item.columns - 1) / item.columns;
  return cat("<div class='view' data-frames='", item.frames, "' data-columns='", item.columns, "' data-width='", width,
             "' data-height='", height, "' style='width:", width, "px;height:", height,
             "px;background-size:", width * item.columns, "px ", height * rows,
             "px;background-image:url(data:image/png;base64,", base64(png), ")'></div>");
}

std::string media_cards(const Evaluation& evaluation) {
  std::string animations, pictures;
  const auto media = read_media(evaluation.folder);
  for (const auto& [task, line] : evaluation.summary.tasks) {
    const auto items = media.find(task);
    if (items == media.end()) continue;
    for (const MediaItem& item : items->second) {
      const Path file = evaluation.folder / item.file;
      if (item.file.empty() || !std::filesystem::exists(file)) continue;
      const std::string view = view_of(item, read_file(file, uint64_t{64} << 20));
      if (line.scoring == run::TaskScoring::kExactMatch) {
        pictures += cat("<div class='card'>", view, "<b class='", item.exact_match ? "right'>✓ " : "wrong'>✗ ",
                        escape_html(item.answer), "</b>",
                        item.exact_match ? "" : cat("<small>right: ", escape_html(item.reference), "</small><br>"),
                        "<small>", escape_html(task), "</small></div>");
      } else {
        animations += cat("<div class='card'>", view, "<b>", escape_html(task), "</b><small>score ",
                          show(line.score, 1), "</small></div>");
      }
    }
  }
  std::string out;
  if (!animations.empty())
    out +=
        cat("<h2>Rollouts</h2><p class='sub'>The agent playing, one episode per task. A click holds the "
            "picture.</p><div class='cards'>",
            animations, "</div>");
  if (!pictures.empty())
    out +=
        cat("<h2>Captions and answers</h2><p class='sub'>What the agent says of drawings it never saw.</p><div "
            "class='cards'>",
            pictures, "</div>");
  return out;
}

std::string now_text() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[40];
  std::strftime(text, sizeof text, "%Y-%m-%d %H:%M UTC", &parts);
  return text;
}

}  // namespace

Path write_report(const Path& folder) {
  const run::RunFolder run(folder);
  if (!run.exists())
    throw ConfigError(
        cat(folder.string(), " is no run folder: it has no config.yaml; give the folder that gato-train made"));
  const std::string name = std::filesystem::absolute(folder).lexically_normal().filename().string();
  std::string page =
      cat("<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' "
          "content='width=device-width,initial-scale=1'><title>",
          escape_html(name), " – gato report</title><style>", kStyle, "</style></head><body><main><h1>",
          escape_html(name), "</h1>");
  const auto evaluations = newest_evaluations(run);
  page += cat("<p class='sub'>gato ", version(), ", written ", now_text(), "</p>");
  if (evaluations.empty())
    page += "<p>No evaluation yet: run <code>gato-eval --checkpoint RUN --suite NAME</code>.</p>";
  for (const Evaluation& evaluation : evaluations) {
    page += cat(
        "<h2>Suite ", escape_html(evaluation.summary.suite), ", checkpoint ",
        escape_html(evaluation.summary.checkpoint), "</h2>", tiles(evaluation),
        "<h2>Scores</h2><p class='sub'>0 is random play and 100 the expert of the data; lines are 95 % intervals.</p>",
        bars(evaluation.summary), "<br>", score_table(evaluation.summary), score_curves(run, evaluation.summary.suite),
        media_cards(evaluation));
  }
  page += learning_curves(run);
  page += cat("<details><summary>Configuration</summary><pre>",
              escape_html(read_file(run.config_path(), uint64_t{4} << 20)), "</pre></details>");
  page += cat("</main><script>", kScript, "</script></body></html>\n");
  write_file_atomic(run.report_path(), page);
  return run.report_path();
}

}  // namespace gato::eval
