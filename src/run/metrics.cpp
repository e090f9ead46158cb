#include "gato/run/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/json_fields.h"
#include "gato/core/log.h"
#include "gato/core/text.h"
#include "run/clock.h"
#include "run/json_lines.h"

namespace gato::run {
namespace {

constexpr std::string_view kTime = "time";
constexpr std::string_view kAttempt = "attempt";
constexpr std::string_view kStep = "step";
constexpr std::string_view kTokens = "tokens";

bool is_own_key(std::string_view name) { return name == kTime || name == kAttempt || name == kStep || name == kTokens; }

void check_name(const std::string& name) {
  constexpr std::string_view kAllowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-";
  GATO_CHECK(!name.empty() && name.find_first_not_of(kAllowed) == std::string::npos && !is_own_key(name), "\"", name,
             "\" cannot be the name of a metric");
}

MetricPoint parse_point(const Json& line, const std::string& where) {
  JsonFields fields(line, where);
  MetricPoint point;
  point.time = fields.number(kTime);
  point.attempt = fields.integer(kAttempt, 0);
  point.step = fields.integer(kStep, 0);
  point.tokens = fields.integer(kTokens, 0);
  for (const auto& entry : line.items()) {
    if (!is_own_key(entry.key())) point.values[entry.key()] = fields.number_or_nan(entry.key());
  }
  return point;
}

/// Adds a line to what is known: see read_metrics().
void merge(MetricPoint&& line, std::map<int64_t, MetricPoint>& points) {
  for (auto later = points.upper_bound(line.step); later != points.end();) {
    later = later->second.attempt < line.attempt ? points.erase(later) : std::next(later);
  }
  const auto [entry, is_new] = points.try_emplace(line.step, line);
  if (is_new) return;
  MetricPoint& point = entry->second;
  point.time = line.time;
  point.attempt = line.attempt;
  point.tokens = line.tokens;
  for (const auto& [name, value] : line.values) point.values[name] = value;
}

}  // namespace

MetricsWriter::MetricsWriter(Path path, int64_t attempt) : attempt_(attempt), lines_(path) {
  GATO_CHECK(attempt >= 0, "attempt ", attempt);
  make_folders(path.parent_path());
}

void MetricsWriter::write(int64_t step, int64_t tokens, const MetricValues& values) const {
  GATO_CHECK(step >= 0 && tokens >= 0, "step ", step, ", ", tokens, " tokens");
  Json line;
  line[kTime] = std::round(seconds_since_1970() * 1000) / 1000;
  line[kAttempt] = attempt_;
  line[kStep] = step;
  line[kTokens] = tokens;
  for (const auto& [name, value] : values) {
    check_name(name);
    if (std::isfinite(value)) {
      line[name] = value;
    } else {
      line[name] = nullptr;
    }
  }
  const std::lock_guard lock(mutex_);
  lines_.add(line.dump());
  lines_.flush();
}

std::vector<std::pair<int64_t, double>> Metrics::series(const std::string& name) const {
  std::vector<std::pair<int64_t, double>> series;
  for (const MetricPoint& point : points) {
    const auto found = point.values.find(name);
    if (found != point.values.end() && !std::isnan(found->second)) series.emplace_back(point.step, found->second);
  }
  return series;
}

std::vector<std::string> Metrics::names() const {
  std::set<std::string> names;
  for (const MetricPoint& point : points) {
    for (const auto& [name, value] : point.values) names.insert(name);
  }
  return {names.begin(), names.end()};
}

Metrics read_metrics(const Path& path) {
  Metrics metrics;
  std::map<int64_t, MetricPoint> points;
  metrics.damaged_lines = for_each_json_line(
      path, [&](const Json& line, const std::string& where) { merge(parse_point(line, where), points); });
  for (auto& [step, point] : points) metrics.points.push_back(std::move(point));
  return metrics;
}

}  // namespace gato::run
