#include "gato/data/mixture.h"

#include <algorithm>
#include <charconv>

#include "gato/data/plan.h"

namespace gato::data {
namespace {

constexpr const char* kNoTask = "names no task; give a pattern such as control/*";
constexpr int64_t kMaxGroup = 64;
constexpr int64_t kMostRows = int64_t{1} << 50;

/// In which a phase begins.
int64_t block_of(int64_t first_row) {
  return (std::clamp<int64_t>(first_row, 0, kMostRows) + kBlockRows - 1) / kBlockRows;
}

bool parse_positive(const ConfigNode& node, int64_t& value) {
  if (node.kind != ConfigNode::Kind::kScalar || node.quoted) return false;
  const char* end = node.scalar.data() + node.scalar.size();
  const auto [stop, error] = std::from_chars(node.scalar.data(), end, value);
  return error == std::errc() && stop == end && value >= 1 && value <= INT32_MAX;
}

}  // namespace

bool parse_config_value(const ConfigNode& node, WindowSteps& value, std::string& expected) {
  expected = "a number of steps (1), a range of them ([1, 4]) or the word row";
  WindowSteps parsed;
  if (node.kind == ConfigNode::Kind::kScalar && node.scalar == "row") {
    parsed.row = true;
  } else if (node.kind == ConfigNode::Kind::kList) {
    if (node.list.size() != 2 || !parse_positive(node.list[0], parsed.low) ||
        !parse_positive(node.list[1], parsed.high) || parsed.low > parsed.high) {
      return false;
    }
  } else {
    if (!parse_positive(node, parsed.low)) return false;
    parsed.high = parsed.low;
  }
  value = parsed;
  return true;
}

std::string config_value_yaml(const WindowSteps& value) {
  if (value.row) return "row";
  if (value.low == value.high) return cat(value.low);
  return cat("[", value.low, ", ", value.high, "]");
}

void validate_config(const TaskShare& share, ConfigProblems& problems) {
  if (share.tasks.empty()) problems.add("tasks", kNoTask);
  if (!(share.share >= 0) || share.share > 1e9) {
    problems.add("share", cat("is ", share.share, ", but must be a number of at least 0"));
  }
}

void validate_config(const MixtureEntry& entry, ConfigProblems& problems) {
  if (entry.tasks.empty()) problems.add("tasks", kNoTask);
  const auto not_negative = [&](const char* name, double value) {
    if (!(value >= 0) || value > 1e9) problems.add(name, cat("is ", value, ", but must be a number of at least 0"));
  };
  not_negative("share", entry.share);
  not_negative("loss_weight", entry.loss_weight);
  not_negative("observed_text_loss", entry.observed_text_loss);
  not_negative("observed_value_loss", entry.observed_value_loss);
  if (!(entry.prompt_probability >= 0 && entry.prompt_probability <= 1)) {
    problems.add("prompt_probability", cat("is ", entry.prompt_probability, ", but must be in [0, 1]"));
  }
  if (entry.group < 1 || entry.group > kMaxGroup) {
    problems.add("group", cat("is ", entry.group, ", but must be in [1, ", kMaxGroup, "]"));
  }
  if (entry.group > 1 && entry.steps.row) {
    problems.add("group", "joins windows of a fixed length; set steps to a number, such as 1 for captioned pictures");
  }
}

void validate_config(const MixtureFile& file, ConfigProblems& problems) {
  if (file.mixture.empty()) problems.add("mixture", "names no tasks");
}

void validate_config(const DataConfig& config, ConfigProblems& problems) {
  const auto in_range = [&](const char* name, double value, double low, double high) {
    if (!(value >= low && value <= high)) {
      problems.add(name, cat("is ", value, ", but must be in [", low, ", ", high, "]"));
    }
  };
  in_range("row_tokens", static_cast<double>(config.row_tokens), 8, 1 << 20);
  in_range("validation_share", config.validation_share, 0, 0.5);
  in_range("label_weight_power", config.label_weight_power, 0, 2);
  in_range("prompt_tokens_share", config.prompt_tokens_share, 0.01, 0.9);
  in_range("prompt_from_end", config.prompt_from_end, 0, 1);
  in_range("shuffle_shards", static_cast<double>(config.shuffle_shards), 1, 1 << 20);
  in_range("loader_threads", static_cast<double>(config.loader_threads), 1, 256);
  in_range("prefetch_batches", static_cast<double>(config.prefetch_batches), 1, 1024);
  in_range("quarantine_budget", config.quarantine_budget, 0, 1);
  in_range("cache_mib", static_cast<double>(config.cache_mib), 4, 1 << 30);
  for (size_t i = 0; i < config.schedule.size(); ++i) {
    const int64_t first = config.schedule[i].first_row;
    const std::string key = cat("schedule.[", i, "].first_row");
    if (i == 0 && first != 0) problems.add(key, "must be 0 in the first phase");
    if (first < 0 || first > kMostRows) problems.add(key, cat("is ", first, ", but must be in [0, 2^50]"));
    if (i > 0 && block_of(first) <= block_of(config.schedule[i - 1].first_row)) {
      problems.add(key, cat("is ", first, ", but must be in a later block of ", kBlockRows,
                            " rows than the phase before's: that phase would have no rows"));
    }
    const bool in_file = !config.schedule[i].mixture_file.empty();
    if (config.schedule[i].mixture.empty() && !in_file) {
      problems.add(cat("schedule.[", i, "].mixture"), "names no tasks, and no mixture_file is given");
    } else if (!config.schedule[i].mixture.empty() && in_file) {
      problems.add(cat("schedule.[", i, "].mixture_file"), "stands beside a mixture; give one of the two");
    }
  }
}

MixturePhase default_phase() {
  MixturePhase phase;
  phase.mixture.push_back({.tasks = "*", .steps = {1, 1, true}});
  return phase;
}

void expand_mixture_files(DataConfig& config) {
  for (MixturePhase& phase : config.schedule) {
    if (phase.mixture_file.empty()) continue;
    phase.mixture = read_config<MixtureFile>(load_yaml(phase.mixture_file)).mixture;
    phase.mixture_file.clear();
  }
}

const std::vector<std::string>& datasets_of_phase(const DataConfig& config, size_t index) {
  for (size_t i = std::min(index + 1, config.schedule.size()); i-- > 0;) {
    if (!config.schedule[i].datasets.empty()) return config.schedule[i].datasets;
  }
  return config.datasets;
}

}  // namespace gato::data
