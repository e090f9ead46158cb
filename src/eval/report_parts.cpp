#include "report_parts.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "gato/core/text.h"
#include "html.h"

namespace gato::eval {
namespace {

using Interval = std::optional<std::pair<double, double>>;

constexpr size_t kSearchFrom = 12;  // tasks, from which on a table can be searched

std::string tile(const std::string& value, const std::string& label) {
  return cat("<div class='tile'><b>", escape_html(value), "</b><span>", escape_html(label), "</span></div>");
}

int64_t scored_tasks(const run::Summary& summary) {
  return std::count_if(summary.tasks.begin(), summary.tasks.end(),
                       [](const auto& task) { return task.second.score.has_value(); });
}

/// A cell that sorts by its number.
std::string number_cell(const std::optional<double>& value, int digits) {
  return cat("<td data-v='", value && std::isfinite(*value) ? cat(*value) : "", "'>", show(value, digits), "</td>");
}

std::string link(const std::string& address, const std::string& text) {
  return address.empty() ? escape_html(text) : cat("<a href='", escape_html(address), "'>", escape_html(text), "</a>");
}

/// Where a person finds tasks: words of their names, a domain, a range of scores. Shown by the script.
std::string finder(const std::set<std::string>& domains) {
  std::string options = "<option value=''>all domains</option>";
  for (const std::string& domain : domains) options += cat("<option>", escape_html(domain), "</option>");
  return cat("<div class='find' hidden><input type='search' placeholder='find tasks (/)' aria-label='Find tasks'>",
             "<select aria-label='Domain'", domains.size() == 1 ? " hidden>" : ">", options,
             "</select><select aria-label='Scores'>",
             "<option value=''>all scores</option><option value='100'>100 or above</option><option value='75'>75 or "
             "above</option><option value='50'>50 or above</option><option value='low'>below 50</option><option "
             "value='none'>without a score</option></select><output aria-live='polite'></output></div>");
}

std::string success_cell(const run::TaskSummary& line) {
  const std::optional<double> rate = line.exact_match ? line.exact_match : line.success_rate;
  std::string text = rate ? show(100 * *rate, 0) + " %" : "–";
  if (line.success_ci95 && !line.exact_match) {
    text += cat(" <small>", show(std::pair{100 * line.success_ci95->first, 100 * line.success_ci95->second}, 0),
                "</small>");
  }
  return cat("<td data-v='", rate ? cat(*rate) : "", "'>", text, "</td>");
}

std::string task_row(const std::string& task, const run::TaskSummary& line, const std::string& address) {
  std::string note = line.note;
  if (line.loss) {
    note = cat(show(line.loss->nats_per_token, 3), " nats per token; a unigram model ",
               show(line.loss->unigram_nats_per_token, 3), note.empty() ? "" : "; ", note);
  } else if (!line.score && note.empty()) {
    note = "no score";
  }
  return cat("<tr data-domain='", escape_html(domain_of_task(task)), "' data-score='",
             line.score ? cat(*line.score) : "", "'><td>", link(address, task),
             note.empty() ? "" : cat("<br><small>", escape_html(note), "</small>"), "</td><td class='t' data-v='",
             line.score ? cat(*line.score) : "", "'>", line.score ? score_bar(*line.score, line.ci95) : "", "</td>",
             number_cell(line.score, 1), "<td>", show(line.ci95, 1), "</td>", number_cell(line.mean_return, 2),
             number_cell(line.expert_return, 2), number_cell(line.random_return, 2), success_cell(line),
             number_cell(static_cast<double>(line.rollouts), 0), "</tr>");
}

}  // namespace

std::string domain_of_task(const std::string& task) { return task.substr(0, task.find('/')); }

std::string summary_tiles(const run::Summary& summary) {
  const int64_t scored = scored_tasks(summary);
  std::string out = "<div class='tiles'>";
  const std::string mean_interval = summary.mean_ci95 ? cat(" (", show(summary.mean_ci95, 1), ")") : "";
  out += tile(show(summary.mean_score, 1), "mean score over domains, expert = 100" + mean_interval);
  out += tile(cat(scored, " of ", summary.tasks.size()), "tasks have a score");
  const auto at_least =
      summary.tasks_at.empty() ? std::map<int64_t, int64_t>{{50, summary.tasks_at_50}} : summary.tasks_at;
  for (const auto& [share, tasks] : at_least)
    out += tile(cat(tasks, " of ", scored), cat("tasks at ", share, " or above"));
  return out + "</div>";
}

std::string domain_table(const run::Summary& summary, const std::map<std::string, std::string>& page_of_domain) {
  struct Counts {
    int64_t all = 0, at_half = 0;
  };
  std::map<std::string, Counts> counts;
  for (const auto& [task, line] : summary.tasks) {
    Counts& count = counts[domain_of_task(task)];
    ++count.all;
    count.at_half += line.score.value_or(-1) >= 50 ? 1 : 0;
  }
  std::string rows;
  for (const auto& [domain, count] : counts) {
    const auto found = summary.domains.find(domain);
    const auto page = page_of_domain.find(domain);
    const run::DomainSummary* line = found == summary.domains.end() ? nullptr : &found->second;
    rows += cat("<tr><td>", link(page == page_of_domain.end() ? "" : page->second, domain), "</td><td class='t'>",
                line != nullptr ? score_bar(line->score, line->ci95) : "", "</td><td>",
                line != nullptr ? show(line->score, 1) : "–", "</td><td>", line != nullptr ? show(line->ci95, 1) : "–",
                "</td><td>", line != nullptr ? line->tasks : 0, " of ", count.all, "</td><td>",
                line != nullptr ? cat(count.at_half) : "–", "</td></tr>");
  }
  return cat(
      "<div class='panel'><table><thead><tr><th scope='col'>domain</th><th scope='col' class='t'>random – half – "
      "expert</th><th scope='col'>score</th><th scope='col'>95 % interval</th><th scope='col'>tasks with a "
      "score</th><th scope='col'>at 50 or above</th></tr></thead><tbody>",
      rows, "</tbody></table></div>");
}

std::string score_profile(const run::Summary& summary) {
  std::vector<double> scores;
  for (const auto& [task, line] : summary.tasks) {
    if (line.score && std::isfinite(*line.score)) scores.push_back(*line.score);
  }
  if (scores.size() < 2) return "";
  Curve curve{cat("of ", scores.size(), " tasks with a score, at 120:"), 2, false, {}, {}, 0};
  for (int share = 0; share <= 120; share += 2) {
    const auto tasks = std::count_if(scores.begin(), scores.end(), [&](double score) { return score >= share; });
    curve.points.emplace_back(share, static_cast<double>(tasks));
  }
  return line_chart("Tasks at or above a score", "score, percent of the expert", {curve});
}

std::string task_table(const run::Summary& summary, const std::string& domain,
                       const std::map<std::string, std::string>& address_of_task) {
  std::set<std::string> domains;
  std::string rows;
  size_t tasks = 0;
  for (const auto& [task, line] : summary.tasks) {
    if (!domain.empty() && domain_of_task(task) != domain) continue;
    domains.insert(domain_of_task(task));
    const auto address = address_of_task.find(task);
    rows += task_row(task, line, address == address_of_task.end() ? "" : address->second);
    ++tasks;
  }
  return cat("<div class='panel scores'>", tasks >= kSearchFrom ? finder(domains) : "",
             "<table><thead><tr><th scope='col'>task</th><th scope='col' class='t' data-plain>random – half – "
             "expert</th><th scope='col'>score</th><th scope='col' data-plain>95 % interval</th><th scope='col'>mean "
             "return</th><th scope='col'>expert</th><th scope='col'>random</th><th scope='col'>success</th><th "
             "scope='col'>rollouts</th></tr></thead><tbody>",
             rows, "</tbody></table></div>");
}

namespace {

std::string picture(const PlacedMedia& media, const std::string& words) {
  if (media.still.empty()) return "";
  const std::string image =
      cat("<img loading='lazy' decoding='async' width='", media.width, "' height='", media.height, "' alt='",
          escape_html(words), "' src='", escape_html(media.moving.empty() ? media.still : media.moving), "'>");
  if (media.moving.empty()) return image;
  // Held animations show their first frame.
  return cat("<picture><source media='(prefers-reduced-motion:reduce)' srcset='", escape_html(media.still), "'>", image,
             "</picture>");
}

std::string rollout_figure(const MediaItem& item, const PlacedMedia& media) {
  std::string words =
      cat("return ", show(item.episode_return, 2), ", ", item.length, item.length == 1 ? " step" : " steps");
  if (item.success) words += *item.success ? ", success" : ", no success";
  return cat("<figure>", picture(media, cat(item.kind, " rollout of ", item.task)), "<figcaption><b>",
             escape_html(item.kind), "</b> – ", words, "<br><small>seed ", item.seed, "</small>",
             item.question.empty() ? "" : cat("<br><small class='say'>“", escape_html(item.question), "”</small>"),
             media.film.empty() ? "" : cat(" <a href='", escape_html(media.film), "'>MP4</a>"),
             "</figcaption></figure>");
}

std::string answer_card(const MediaItem& item, const PlacedMedia& media) {
  const std::string question =
      item.question.empty() ? "" : cat("<div class='say'>", escape_html(item.question), "</div>");
  const char* mark = item.exact_match ? "<b class='right say'><span aria-label='right'>✓</span> "
                                      : "<b class='wrong say'><span aria-label='wrong'>✗</span> ";
  return cat("<div class='card'>", picture(media, cat("picture of ", item.task)), question, mark,
             escape_html(item.answer.empty() ? "(says nothing)" : item.answer), "</b>",
             item.exact_match ? "" : cat("<br><small class='say'>right: ", escape_html(item.reference), "</small>"),
             "</div>");
}

std::string text_card(const MediaItem& item) {
  return cat("<div class='panel'><p class='say'><small>", escape_html(item.question), "</small><b>",
             escape_html(item.answer), "</b></p><details><summary>as it was written</summary><p class='say'><small>",
             escape_html(item.question), "</small>", escape_html(item.reference), "</p></details></div>");
}

std::string score_words(const run::TaskSummary& line) {
  if (line.loss) {
    return cat(show(line.loss->nats_per_token, 3), " nats per token, a unigram model ",
               show(line.loss->unigram_nats_per_token, 3));
  }
  if (!line.score) return line.note.empty() ? "no score" : line.note;
  return cat("score ", show(line.score, 1), line.ci95 ? cat(" (", show(line.ci95, 1), ")") : "", ", ", line.rollouts,
             line.rollouts == 1 ? " rollout" : " rollouts");
}

std::string task_article(const std::string& task, const run::TaskSummary& line, const std::vector<MediaItem>& items,
                         const Path& folder, const MediaShelf& shelf) {
  std::string inside;
  for (const MediaItem& item : items) {
    if (line.scoring == run::TaskScoring::kLoss) {
      inside += text_card(item);
    } else if (item.kind.empty() || line.scoring == run::TaskScoring::kExactMatch) {
      inside += answer_card(item, shelf.of(folder, item));
    } else {
      inside += rollout_figure(item, shelf.of(folder, item));
    }
  }
  const char* kind = line.scoring == run::TaskScoring::kLoss         ? "texts"
                     : line.scoring == run::TaskScoring::kExactMatch ? "cards"
                                                                     : "shown";
  if (inside.empty()) inside = "<p class='sub'>No pictures were kept.</p>";
  const bool is_wide = line.scoring != run::TaskScoring::kReturn;
  return cat("<article id='", slug(task), is_wide ? "' class='wide'><h3>" : "'><h3>", escape_html(task), " <small>",
             escape_html(score_words(line)), "</small></h3><div class='", kind, "'>", inside, "</div></article>");
}

}  // namespace

std::string task_media(const Evaluation& evaluation, const std::string& domain, const MediaShelf& shelf) {
  std::string out;
  for (const auto& [task, line] : evaluation.summary.tasks) {
    const auto items = evaluation.media.find(task);
    if (items == evaluation.media.end() && domain.empty()) continue;
    if (!domain.empty() && domain_of_task(task) != domain) continue;
    out += task_article(task, line, items == evaluation.media.end() ? std::vector<MediaItem>{} : items->second,
                        evaluation.folder, shelf);
  }
  return out;
}

namespace {

/// Tokens at a step, or at the last one before it that was recorded.
std::optional<double> tokens_at(const run::Metrics& metrics, int64_t step) {
  const auto after = std::upper_bound(metrics.points.begin(), metrics.points.end(), step,
                                      [](int64_t s, const run::MetricPoint& point) { return s < point.step; });
  if (after == metrics.points.begin()) return std::nullopt;
  return static_cast<double>(std::prev(after)->tokens);
}

}  // namespace

ScoreCurves score_curves(const std::vector<run::ScoreLine>& scores, const std::string& suite,
                         const run::Metrics& metrics) {
  std::map<std::string, Curve> curves;
  const auto add = [&](const std::string& name, double tokens, double score, const Interval& interval) {
    Curve& curve = curves.try_emplace(name, Curve{"score", 0, true, {}, {}, 1}).first->second;
    curve.points.emplace_back(tokens, score);
    curve.band.push_back(interval.value_or(std::pair{score, score}));
  };
  size_t checkpoints = 0;
  for (const run::ScoreLine& line : scores) {
    const auto tokens = tokens_at(metrics, line.summary.step);
    if (line.summary.suite != suite || !tokens) continue;
    ++checkpoints;
    for (const auto& [domain, score] : line.summary.domains) add(domain, *tokens, score.score, score.ci95);
    if (line.summary.mean_score) add("", *tokens, *line.summary.mean_score, line.summary.mean_ci95);
  }
  if (checkpoints < 2) return {};
  ScoreCurves charts;
  for (auto& [domain, curve] : curves) {
    if (domain.empty()) {
      curve.colour = 2;
      charts.mean = line_chart("Score over training, mean over domains", "tokens", {curve});
    } else {
      charts.domains += line_chart(domain, "tokens", {curve});
      ++charts.num_domains;
    }
  }
  return charts;
}

std::string loss_curves(const run::Metrics& metrics) {
  std::map<int64_t, double> tokens;
  for (const run::MetricPoint& point : metrics.points) tokens[point.step] = static_cast<double>(point.tokens);
  const auto curve = [&](const std::string& label, int colour, const std::string& name) {
    Curve made{label, colour, label == "validation", {}, {}};
    for (const auto& [step, value] : metrics.series(name)) made.points.emplace_back(tokens[step], value);
    return made;
  };
  const std::string prefix = "train/loss/";
  std::string charts;
  for (const std::string& name : metrics.names()) {
    if (name.rfind(prefix, 0) != 0) continue;
    const std::string domain = name.substr(prefix.size());
    charts +=
        line_chart(domain, "tokens", {curve("training", 0, name), curve("validation", 1, "validation/loss/" + domain)});
  }
  return charts.empty() ? "" : cat("<div class='charts'>", charts, "</div>");
}

namespace {

/// Our line of a task, in the first evaluation that has it.
const run::TaskSummary* our_task(const std::vector<Evaluation>& evaluations, const std::string& task) {
  for (const Evaluation& evaluation : evaluations) {
    const auto found = evaluation.summary.tasks.find(task);
    if (found != evaluation.summary.tasks.end()) return &found->second;
  }
  return nullptr;
}

/// Mean success of a domain's tasks that say.
std::optional<double> our_success(const std::vector<Evaluation>& evaluations, const std::string& domain) {
  for (const Evaluation& evaluation : evaluations) {
    double sum = 0;
    int64_t count = 0;
    for (const auto& [task, line] : evaluation.summary.tasks) {
      if (domain_of_task(task) != domain || !line.success_rate) continue;
      sum += *line.success_rate;
      ++count;
    }
    if (count > 0) return 100 * sum / static_cast<double>(count);
  }
  return std::nullopt;
}

std::string returns_row(const run::PublishedReturns& theirs, const std::string& task, const run::TaskSummary* ours) {
  const auto cell = [](const std::optional<double>& value) { return cat("<td>", show(value, 2), "</td>"); };
  std::string row =
      cat("<tr><td>", escape_html(theirs.name), "</td>", cell(theirs.random), cell(theirs.human), cell(theirs.expert));
  if (ours == nullptr) return row + cat("<td class='t' colspan='5'><small>", escape_html(task), "</small></td></tr>");
  row += cat("<td class='t'>", escape_html(task), "</td>", cell(ours->random_return), cell(ours->expert_return),
             cell(ours->mean_return), "<td>", show(ours->score, 1), "</td></tr>");
  return row;
}

std::string returns_table(const std::string& rows) {
  return cat(
      "<div class='panel'><table><thead><tr><th scope='col'>theirs</th><th scope='col'>random</th><th "
      "scope='col'>human</th><th scope='col'>expert</th><th scope='col' class='t'>ours</th><th "
      "scope='col'>random</th><th scope='col'>expert</th><th scope='col'>agent</th><th scope='col'>score</th>"
      "</tr></thead><tbody>",
      rows, "</tbody></table></div>");
}

std::string headline(const run::PublishedHeadline& theirs, const std::vector<Evaluation>& evaluations) {
  std::string out = cat("<li>", escape_html(theirs.what), ": <b>", show(theirs.value, 1), "</b>",
                        theirs.tasks ? cat(" over ", *theirs.tasks, " tasks") : "");
  if (!theirs.domain.empty()) {
    const auto ours = our_success(evaluations, theirs.domain);
    out += ours ? cat("; this agent on our ", escape_html(theirs.domain), ": <b>", show(ours, 1), "</b>")
                : cat("; not evaluated here");
  }
  return out + "</li>";
}

std::string list(const std::vector<std::string>& texts) {
  std::string out;
  for (const std::string& text : texts) out += cat("<li>", escape_html(text), "</li>");
  return cat("<ul>", out, "</ul>");
}

std::string published_by(const run::PublishedScores& theirs, const std::vector<Evaluation>& evaluations) {
  std::string headlines, beside, others;
  std::set<std::string> notes;
  for (const run::PublishedHeadline& one : theirs.headlines) headlines += headline(one, evaluations);
  for (const run::PublishedReturns& one : theirs.returns) {
    bool is_here = false;
    for (const std::string& task : one.tasks) {
      const run::TaskSummary* ours = our_task(evaluations, task);
      if (ours == nullptr) continue;
      is_here = true;
      beside += returns_row(one, task, ours);
      if (!one.note.empty()) notes.insert(cat(one.name, ": ", one.note));
    }
    if (!is_here) others += returns_row(one, "not evaluated here", nullptr);
  }
  std::string out = cat("<h3>", escape_html(theirs.system), "</h3><p class='sub'>Source: ", escape_html(theirs.source),
                        theirs.licence.empty() ? "" : cat(" (", escape_html(theirs.licence), ")"), ". ",
                        escape_html(theirs.table), ". Protocol: ", escape_html(theirs.protocol), "</p>");
  if (!headlines.empty()) out += cat("<ul>", headlines, "</ul>");
  if (!beside.empty()) out += returns_table(beside);
  if (!notes.empty()) out += cat("<p class='sub'>Not the same task:</p>", list({notes.begin(), notes.end()}));
  if (!theirs.errors.empty()) {
    out += cat("<details><summary>Known errors of the source (", theirs.errors.size(), ")</summary>",
               list(theirs.errors), "</details>");
  }
  if (!others.empty()) {
    out += cat("<details><summary>Tasks that are not evaluated here</summary>", returns_table(others), "</details>");
  }
  return out;
}

}  // namespace

std::string published_scores(const std::vector<run::PublishedScores>& published,
                             const std::vector<Evaluation>& evaluations) {
  std::string out;
  for (const run::PublishedScores& theirs : published) out += published_by(theirs, evaluations);
  return out;
}

std::string job_table(const JobsReport& jobs) {
  constexpr size_t kMostRows = 300;
  if (jobs.done == 0 && jobs.open.empty()) return "";
  std::map<std::string, int64_t> states;
  for (const JobLine& line : jobs.open) ++states[line.state];
  std::string counts = cat(jobs.done, " done");
  for (const auto& [state, count] : states) counts += cat(", ", count, " ", state);
  std::string rows;
  for (size_t i = 0; i < std::min(jobs.open.size(), kMostRows); ++i) {
    const JobLine& line = jobs.open[i];
    rows += cat("<tr><td>", escape_html(line.batch), ", job ", line.job, "</td><td class='t'>", escape_html(line.state),
                "</td><td class='t'>", escape_html(join(line.tasks, ", ")), "</td><td>", line.attempts,
                "</td><td class='t say'>", escape_html(line.reason), "</td></tr>");
  }
  std::string out = cat("<p class='sub'>", escape_html(counts), ".</p>");
  if (rows.empty()) return out;
  out +=
      cat("<div class='panel'><table><thead><tr><th scope='col'>job</th><th scope='col' class='t'>state</th><th "
          "scope='col' class='t'>tasks</th><th scope='col'>attempts</th><th scope='col' class='t'>last reason</th>"
          "</tr></thead><tbody>",
          rows, "</tbody></table></div>");
  if (jobs.open.size() > kMostRows) {
    out += cat("<p class='sub'>And ", jobs.open.size() - kMostRows, " more: gato-eval status --run DIR --all.</p>");
  }
  return out;
}

}  // namespace gato::eval
