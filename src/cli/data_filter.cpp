#include <iostream>
#include <memory>

#include "data_verbs.h"
#include "gato/core/config.h"
#include "gato/core/error.h"
#include "gato/data/source.h"
#include "program.h"

namespace gato::cli {
namespace {

struct Arguments {
  std::vector<std::string> configs, overrides, datasets;
  data::FilterEntry entry = {.tasks = "*"};
  bool json = false;
};

bool has_rule(const data::FilterEntry& entry) {
  return entry.min_return_share || entry.success || entry.top_quantile || entry.min_return || entry.max_return;
}

/// The data sets and filters of a configuration, or of the arguments.
data::DataConfig settings_of(const Arguments& arguments) {
  data::DataConfig config;
  if (!arguments.configs.empty()) {
    const ConfigNode document = load_config(arguments.configs, arguments.overrides);
    if (const ConfigNode* node = document.find("data")) config = read_config<data::DataConfig>(*node);
  }
  if (!arguments.datasets.empty()) config.datasets = arguments.datasets;
  if (has_rule(arguments.entry)) {
    ConfigProblems problems;
    validate_config(arguments.entry, problems);
    problems.throw_if_any();
    config.filters = {arguments.entry};
  }
  if (config.filters.empty()) {
    throw ConfigError(arguments.configs.empty()
                          ? "no rule was given: try --min-return-share 0.8, or --help"
                          : "the configuration has no data.filters, and no rule was given: try --min-return-share 0.8");
  }
  return config;
}

int filter(const Arguments& arguments) {
  const data::DataConfig config = settings_of(arguments);
  const std::vector<data::FilterReport> reports = data::filter_shards(data::find_shards(config), config.filters);
  if (reports.empty()) throw ConfigError("no filter's pattern matches a task of these data sets");
  std::cout << (arguments.json ? data::filter_json(reports) + "\n" : data::filter_table(reports));
  return kDone;
}

}  // namespace

Verb add_filter(CLI::App& app) {
  auto arguments = std::make_shared<Arguments>();
  data::FilterEntry& entry = arguments->entry;
  auto* verb = app.add_subcommand("filter", "Show which episodes a filter (data.filters) would keep, without training");
  verb->add_option("datasets", arguments->datasets, "Shards or folders of shards; default those of the configuration");
  verb->add_option("--config", arguments->configs, "Configuration as given to gato-train; may be given several times")
      ->allow_extra_args(false);
  verb->add_option("--set", arguments->overrides, "Setting such as data.cache_mib=64; may be given several times")
      ->allow_extra_args(false);
  verb->add_option("--tasks", entry.tasks, "Pattern of the tasks to which the rules below apply");
  verb->add_option("--min-return-share", entry.min_return_share, "Share of the expert's return, such as 0.8");
  verb->add_option("--window", entry.window, "Episodes per window of the expert's return");
  verb->add_flag("--success", entry.success, "Only episodes marked as successful");
  verb->add_option("--top-quantile", entry.top_quantile, "Share of the episodes with the highest returns, such as 0.1");
  verb->add_option("--min-return", entry.min_return, "Smallest return");
  verb->add_option("--max-return", entry.max_return, "Largest return");
  verb->add_flag("--json", arguments->json, "JSON instead of a table");
  return [verb, arguments] { return verb->parsed() ? filter(*arguments) : -1; };
}

}  // namespace gato::cli
