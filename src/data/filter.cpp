#include "gato/data/filter.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/text.h"

namespace gato::data {

void validate_config(const FilterEntry& entry, ConfigProblems& problems) {
  if (entry.tasks.empty()) problems.add("tasks", "names no task; give a pattern such as control/*");
  const auto in_range = [&](const char* name, const std::optional<double>& value, double low, double high) {
    if (value && !(*value > low && *value <= high)) {
      problems.add(name, cat("is ", *value, ", but must be in (", low, ", ", high, "]"));
    }
  };
  in_range("min_return_share", entry.min_return_share, 0, 1);
  in_range("top_quantile", entry.top_quantile, 0, 1);
  if (entry.window && *entry.window < 1) problems.add("window", cat("is ", *entry.window, ", but must be at least 1"));
  if (entry.window && !entry.min_return_share) problems.add("window", "belongs to min_return_share, which is not set");
  for (const auto& [name, value] : {std::pair{"min_return", entry.min_return}, {"max_return", entry.max_return}}) {
    if (value && !std::isfinite(*value)) problems.add(name, "must be a finite number");
  }
  if (entry.min_return && entry.max_return && *entry.min_return > *entry.max_return) {
    problems.add("min_return", cat("is ", *entry.min_return, ", above max_return ", *entry.max_return));
  }
}

const FilterEntry* filter_of(const std::vector<FilterEntry>& filters, const std::string& task) {
  const FilterEntry* found = nullptr;
  for (const FilterEntry& entry : filters) {
    if (matches_pattern(entry.tasks, task)) found = &entry;
  }
  return found;
}

WindowMeans window_means(const std::vector<double>& values, int64_t window) {
  GATO_CHECK(!values.empty() && window >= 1, values.size(), " values, window ", window);
  const size_t width = std::min(static_cast<size_t>(window), values.size());
  WindowMeans means{-std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity()};
  // Every window is summed from a fresh start now and then, so that rounding does not add up over a million episodes.
  constexpr size_t kFreshEvery = 4096;
  double sum = 0;
  for (size_t first = 0; first + width <= values.size(); ++first) {
    if (first % kFreshEvery == 0) {
      sum = 0;
      for (size_t i = first; i < first + width; ++i) sum += values[i];
    } else {
      sum += values[first + width - 1] - values[first - 1];
    }
    const double mean = sum / static_cast<double>(width);
    means.largest = std::max(means.largest, mean);
    means.smallest = std::min(means.smallest, mean);
  }
  return means;
}

namespace {

std::string rule_text(const FilterEntry& entry) {
  std::vector<std::string> parts;
  if (entry.min_return_share) parts.push_back(cat("return >= ", *entry.min_return_share, " of the expert's"));
  if (entry.success) parts.emplace_back("success");
  if (entry.top_quantile) parts.push_back(cat("best ", 100 * *entry.top_quantile, " %"));
  if (entry.min_return) parts.push_back(cat("return >= ", *entry.min_return));
  if (entry.max_return) parts.push_back(cat("return <= ", *entry.max_return));
  return parts.empty() ? "all" : join(parts, ", ");
}

/// Calls visitor(shard, position in the shard's index, entry) for the episodes of the source, in order.
template <class Visitor>
void for_each_episode(const std::vector<TaskShard>& shards, const Visitor& visitor) {
  for (size_t s = 0; s < shards.size(); ++s) {
    const auto index = shards[s].reader->index();
    for (size_t e = 0; e < index.size(); ++e) {
      if (static_cast<int>(index[e].task) == shards[s].task) visitor(s, e, index[e]);
    }
  }
}

/// Returns of all episodes in order; ConfigError when one has none.
std::vector<double> returns_of(const FilterEntry& entry, const std::string& source,
                               const std::vector<TaskShard>& shards) {
  std::vector<double> returns;
  for_each_episode(shards, [&](size_t s, size_t e, const episode::EpisodeIndexEntry& found) {
    if ((found.flags & episode::kEpisodeHasReward) == 0) {
      throw ConfigError(cat("data.filters: the rule '", rule_text(entry), "' for ", source,
                            " needs returns, but episode ", e, " of ", shards[s].reader->path().string(),
                            " has no rewards; leave the rule out for this task"));
    }
    returns.push_back(static_cast<double>(found.total_return));
  });
  return returns;
}

void measure_expert(const FilterEntry& entry, const episode::TaskSpec& task, const std::vector<double>& returns,
                    FilterReport& report) {
  const auto count = static_cast<int64_t>(returns.size());
  report.window = entry.window.value_or(std::min<int64_t>(1000, std::max<int64_t>(1, count / 10)));
  const WindowMeans means = window_means(returns, report.window);
  report.expert_return = means.largest;
  const double share = *entry.min_return_share;
  if (means.largest > 0) {
    report.threshold = share * means.largest;
    return;
  }
  const bool has_random = task.random.episodes > 0 && task.random.mean < means.largest;
  report.base_return = has_random ? task.random.mean : means.smallest;
  report.threshold = *report.base_return + share * (means.largest - *report.base_return);
}

void raise(std::optional<double>& threshold, double value) {
  threshold = threshold ? std::max(*threshold, value) : value;
}

void set_thresholds(const FilterEntry& entry, const std::string& source, const std::vector<TaskShard>& shards,
                    FilterReport& report) {
  if (!entry.min_return_share && !entry.top_quantile && !entry.min_return && !entry.max_return) return;
  std::vector<double> returns = returns_of(entry, source, shards);
  if (returns.empty()) return;
  if (entry.min_return_share) {
    measure_expert(entry, shards[0].reader->tasks()[static_cast<size_t>(shards[0].task)], returns, report);
  }
  if (entry.top_quantile) {
    const auto kept = static_cast<size_t>(std::ceil(*entry.top_quantile * static_cast<double>(returns.size())));
    const auto last = returns.begin() + static_cast<std::ptrdiff_t>(std::clamp<size_t>(kept, 1, returns.size()) - 1);
    std::nth_element(returns.begin(), last, returns.end(), std::greater<>());
    raise(report.threshold, *last);
  }
  if (entry.min_return) raise(report.threshold, *entry.min_return);
  report.upper = entry.max_return;
}

}  // namespace

FilteredEpisodes filter_episodes(const FilterEntry& entry, const std::string& source,
                                 const std::vector<TaskShard>& shards) {
  GATO_CHECK(!shards.empty(), "a filter needs a shard");
  FilteredEpisodes filtered;
  FilterReport& report = filtered.report;
  report.source = source;
  report.task = shards[0].reader->tasks()[static_cast<size_t>(shards[0].task)].id;
  report.rule = rule_text(entry);
  set_thresholds(entry, source, shards, report);
  for (const TaskShard& shard : shards) filtered.keep.emplace_back(shard.reader->index().size(), false);
  bool judged = false;
  for_each_episode(shards, [&](size_t s, size_t e, const episode::EpisodeIndexEntry& found) {
    report.episodes += 1;
    report.steps += found.num_steps;
    judged = judged || (found.flags & episode::kEpisodeHasSuccess) != 0;
    const auto value = static_cast<double>(found.total_return);
    const bool keep = !(report.threshold && value < *report.threshold) && !(report.upper && value > *report.upper) &&
                      !(entry.success && (found.flags & episode::kEpisodeSuccess) == 0);
    if (!keep) return;
    filtered.keep[s][e] = true;
    report.kept_episodes += 1;
    report.kept_steps += found.num_steps;
  });
  if (report.kept_episodes == 0 && report.episodes > 0) {
    std::string why;
    if (report.threshold) why += cat("; the threshold is a return of ", *report.threshold);
    if (entry.success && !judged) why += "; none of its episodes says whether it succeeded";
    throw ConfigError(cat("data.filters: the rule '", report.rule, "' for tasks '", entry.tasks,
                          "' leaves none of the ", report.episodes, " episodes of ", source, why,
                          "; loosen it, or look at the table of `gato-data filter`"));
  }
  return filtered;
}

std::vector<FilterReport> filter_shards(const std::vector<Path>& shards, const std::vector<FilterEntry>& filters) {
  std::map<std::pair<std::string, std::string>, std::vector<TaskShard>> sources;
  for (const Path& path : shards) {
    const auto reader = std::make_shared<const episode::ShardReader>(path);
    for (size_t t = 0; t < reader->tasks().size(); ++t) {
      sources[{reader->info().name, reader->tasks()[t].id}].push_back({reader, static_cast<int>(t)});
    }
  }
  std::vector<FilterReport> reports;
  for (const auto& [key, of_source] : sources) {
    const FilterEntry* entry = filter_of(filters, key.second);
    if (entry != nullptr) reports.push_back(filter_episodes(*entry, cat(key.first, ":", key.second), of_source).report);
  }
  return reports;
}

namespace {

std::string number_text(const std::optional<double>& value) { return value ? format_fixed(*value, 4) : "-"; }

}  // namespace

std::string filter_table(const std::vector<FilterReport>& reports) {
  std::string text = "source  rule  W  expert  threshold  episodes kept  steps kept\n";
  for (const FilterReport& report : reports) {
    const auto share = [](int64_t kept, int64_t all) {
      const double percent = all == 0 ? 0 : 100 * static_cast<double>(kept) / static_cast<double>(all);
      return cat(kept, " of ", all, " (", format_fixed(percent, 1), " %)");
    };
    text += cat(report.source, "  ", report.rule, "  ", report.window > 0 ? cat(report.window) : "-", "  ",
                number_text(report.expert_return), "  ", number_text(report.threshold), "  ",
                share(report.kept_episodes, report.episodes), "  ", share(report.kept_steps, report.steps), "\n");
  }
  return text;
}

std::string filter_json(const std::vector<FilterReport>& reports) {
  Json list = Json::array();
  const auto optional = [](const std::optional<double>& value) { return value ? Json(*value) : Json(nullptr); };
  for (const FilterReport& report : reports) {
    Json item = Json::object();
    item["source"] = report.source;
    item["task"] = report.task;
    item["rule"] = report.rule;
    item["window"] = report.window;
    item["expert_return"] = optional(report.expert_return);
    item["base_return"] = optional(report.base_return);
    item["threshold"] = optional(report.threshold);
    item["upper"] = optional(report.upper);
    item["episodes"] = report.episodes;
    item["kept_episodes"] = report.kept_episodes;
    item["steps"] = report.steps;
    item["kept_steps"] = report.kept_steps;
    list.push_back(std::move(item));
  }
  return list.dump(2);
}

}  // namespace gato::data
