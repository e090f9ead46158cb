#include <iostream>
#include <memory>

#include "data_verbs.h"
#include "gato/core/progress.h"
#include "gato/core/signals.h"
#include "gato/core/threads.h"
#include "gato/data/source.h"
#include "gato/data/statistics.h"
#include "program.h"

namespace gato::cli {
namespace {

struct Arguments {
  std::vector<std::string> datasets;
  bool json = false;
};

int statistics(const Arguments& arguments) {
  data::DataConfig config;
  config.datasets = arguments.datasets;
  const std::vector<Path> shards = data::find_shards(config);
  Progress progress("counting", static_cast<int64_t>(shards.size()), "shards");
  parallel_for(static_cast<int64_t>(shards.size()), [&](int64_t i) {
    throw_if_stopped("counting");
    static_cast<void>(data::statistics_of(shards[static_cast<size_t>(i)]));
    progress.add();
  });
  progress.finish();
  const data::StatisticsByTask merged = data::statistics_of_shards(shards);
  if (arguments.json) {
    std::cout << data::statistics_json(merged);
    return kDone;
  }
  for (const auto& [task, counted] : merged) std::cout << data::describe_statistics(counted) << "\n";
  return kDone;
}

}  // namespace

Verb add_statistics(CLI::App& app) {
  auto arguments = std::make_shared<Arguments>();
  auto* verb = app.add_subcommand(
      "statistics", "Range, mean, share outside the bounds and histogram of every field; stored beside each shard");
  verb->add_option("datasets", arguments->datasets, "Shards or folders of shards")->required();
  verb->add_flag("--json", arguments->json, "JSON instead of histograms");
  return [verb, arguments] { return verb->parsed() ? statistics(*arguments) : -1; };
}

}  // namespace gato::cli
