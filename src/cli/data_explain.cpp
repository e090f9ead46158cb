#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <memory>
#include <optional>

#include "data_verbs.h"
#include "gato/core/config.h"
#include "gato/core/error.h"
#include "gato/data/explain.h"
#include "gato/data/open.h"
#include "gato/run/run_folder.h"
#include "program.h"

namespace gato::cli {
namespace {

struct Arguments {
  std::vector<std::string> configs, overrides;
  std::string run;
  int64_t step = 0, row = 0, rows = 1;
  bool show = false, validation = false;
  data::ShowOptions options;
};

/// The part of a training configuration that decides what is in a row.
struct RowSettings {
  data::DataConfig data;
  tokenizer::TokenizerConfig tokenizer;
  int64_t batch_rows = 512;  // the trainer's defaults
  uint64_t seed = 0;
};

template <class Section>
Section section(const ConfigNode& document, const char* name) {
  const ConfigNode* node = document.find(name);
  return node == nullptr ? Section{} : read_config<Section>(*node);
}

int64_t integer(const ConfigNode& document, const char* key, int64_t otherwise) {
  const ConfigNode* train = document.find("train");
  const ConfigNode* node = train == nullptr ? nullptr : train->find(key);
  if (node == nullptr) return otherwise;
  int64_t value = 0;
  const std::string& text = node->scalar;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size())
    throw ConfigError(cat("train.", key, " must be an integer, is ", text, " (", node->origin, ")"));
  return value;
}

RowSettings read_settings(const Arguments& arguments) {
  std::vector<std::string> files = arguments.configs;
  if (!arguments.run.empty()) files.insert(files.begin(), (Path(arguments.run) / "config.yaml").string());
  if (files.empty()) throw ConfigError("give --config FILE (as to gato-train) or --run DIR");
  const ConfigNode document = load_config(files, arguments.overrides);
  RowSettings settings;
  settings.data = section<data::DataConfig>(document, "data");
  settings.tokenizer = section<tokenizer::TokenizerConfig>(document, "tokenizer");
  settings.batch_rows = integer(document, "batch_rows", settings.batch_rows);
  settings.seed = static_cast<uint64_t>(integer(document, "seed", 0));
  return settings;
}

/// The run's list of what it left out; what else is found goes on a list in memory only.
std::shared_ptr<data::Quarantine> known_damage(const data::DataConfig& config, const Path& list) {
  if (config.on_corrupt != data::OnCorrupt::kQuarantine) return nullptr;
  constexpr int64_t kAny = std::numeric_limits<int64_t>::max();
  auto known = std::make_shared<data::Quarantine>("", kAny);
  if (!list.empty()) {
    for (const data::QuarantineEntry& entry : data::Quarantine(list, kAny).entries()) known->add(entry);
  }
  return known;
}

int explain(const Arguments& arguments) {
  const RowSettings settings = read_settings(arguments);
  data::OpenOptions open;
  open.seed = settings.seed;
  std::optional<data::ScheduleRecord> recorded;
  const run::RunFolder folder(arguments.run.empty() ? "." : arguments.run);
  if (const auto schedule = arguments.run.empty() ? std::nullopt : folder.read_schedule()) {
    recorded = data::parse_schedule_record(*schedule, folder.schedule_path().string());
    open.recorded = &*recorded;
    open.consumed_rows = std::numeric_limits<int64_t>::max();
  }
  const data::OpenedData opened = data::open_data(settings.data, settings.tokenizer, open);
  const auto& plan = arguments.validation ? opened.validation_plan : opened.plan;
  if (!plan) throw ConfigError("no episodes are held out for validation (data.validation_share)");
  const bool of_run = !arguments.run.empty() && !arguments.validation;  // validation looks at every episode anew
  const data::RowBuilder builder(plan, !arguments.validation,
                                 known_damage(settings.data, of_run ? folder.quarantine_path() : Path()));
  const int64_t first = arguments.validation ? arguments.row : arguments.step * settings.batch_rows + arguments.row;
  data::ShowOptions options = arguments.options;
  options.text = opened.text.get();
  options.color = isatty(STDOUT_FILENO) != 0 && std::getenv("NO_COLOR") == nullptr;
  for (int64_t row = first; row < first + arguments.rows; ++row) {
    std::cout << (arguments.show ? data::show_row(builder, row, options)
                                 : data::describe_row(*plan, data::explain_row(builder, row)));
  }
  return kDone;
}

}  // namespace

Verb add_explain(CLI::App& app) {
  auto arguments = std::make_shared<Arguments>();
  auto* verb = app.add_subcommand("explain", "Say what a training row is made of: every window, its place, its loss");
  verb->add_option("--config", arguments->configs, "Configuration as given to gato-train; may be given several times")
      ->allow_extra_args(false);
  verb->add_option("--run", arguments->run, "Run folder, whose configuration is taken")->check(CLI::ExistingDirectory);
  verb->add_option("overrides", arguments->overrides, "Settings such as data.row_tokens=512");
  verb->add_option("--step", arguments->step, "Training step, counted from 0")->check(CLI::NonNegativeNumber);
  verb->add_option("--row", arguments->row, "Row of the step's batch, or with --validation of the validation rows")
      ->check(CLI::NonNegativeNumber);
  verb->add_option("--rows", arguments->rows, "Number of rows")->check(CLI::Range(1, 1000000));
  verb->add_flag("--validation", arguments->validation, "The rows of the validation instead");
  verb->add_flag("--show", arguments->show, "Also show texts, pictures, numbers, actions, and which tokens carry loss");
  verb->add_option("--max-steps", arguments->options.max_steps, "Steps shown per window")
      ->check(CLI::Range(0, 1000000));
  verb->add_option("--picture-width", arguments->options.thumbnail_columns, "Characters; 0: no pictures")
      ->check(CLI::Range(0, 400));
  return [verb, arguments] { return verb->parsed() ? explain(*arguments) : -1; };
}

}  // namespace gato::cli
