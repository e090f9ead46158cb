#include <algorithm>
#include <iostream>

#include "data_verbs.h"
#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/core/threads.h"
#include "gato/core/version.h"
#include "gato/episode/import.h"
#include "gato/episode/import_filter.h"
#include "import_formats.h"
#include "program.h"

namespace gato::cli {
namespace {

/// Every format of `gato-data import`, in the order of --help.
std::vector<ImportCommand> import_commands() {
  return {
      text_import(), webdataset_import(), tfds_import(), stream_import(), csv_import(), minari_import(), d4rl_import(),
  };
}

/// What every format's subcommand has.
struct CommonArguments {
  std::vector<std::string> sources;
  std::string out, filter;
  episode::DatasetInfo info;
  bool drop_damaged = false, dry_run = false;
  int64_t limit = 0, shard_mib = 256;
  int threads = 0;
};

void add_common_options(CLI::App& verb, const std::string& sources_help, CommonArguments& arguments) {
  verb.add_option("sources", arguments.sources, sources_help)->required()->type_name("SOURCE");
  verb.add_option("--out", arguments.out, "Folder for the shards (not needed with --dry-run)");
  verb.add_option("--name", arguments.info.name, "Name of the data set, such as text/wiki; keys its shuffling");
  verb.add_option("--licence", arguments.info.licence, "Licence of the data: SPDX identifier or a sentence");
  verb.add_option("--description", arguments.info.description, "One sentence for people");
  verb.add_flag("--drop-damaged", arguments.drop_damaged, "Leave damaged records out and count them; default: stop");
  verb.add_option("--limit", arguments.limit, "Read at most so many records; 0: all")
      ->check(CLI::Range(int64_t{0}, INT64_MAX));
  verb.add_option("--filter", arguments.filter, "Content filter, such as configs/filters/example.yaml")
      ->check(CLI::ExistingFile);
  verb.add_option("--threads", arguments.threads, "0: all processors; the shards do not depend on it")
      ->check(CLI::Range(0, 4096));
  verb.add_option("--shard-mib", arguments.shard_mib, "Size of a shard in MiB")->check(CLI::Range(1, 65536));
  verb.add_flag("--dry-run", arguments.dry_run, "Show the mapping and the first episode, write nothing");
}

/// What the format's own options were set to, for the record and for resuming: "text --split lines".
std::string describe_arguments(const std::string& format, const std::vector<const CLI::Option*>& own_options) {
  std::string text = format;
  for (const CLI::Option* option : own_options) {
    if (option->count() == 0) continue;
    text += cat(" ", option->get_name());
    for (const std::string& value : option->results()) text += cat(" ", value);
  }
  return text;
}

std::string padded(const std::string& text, size_t width) {
  return text.size() >= width ? text : text + std::string(width - text.size(), ' ');
}

void print_mapping(const std::vector<std::string>& mapping) {
  std::cout << "mapping\n";
  for (const std::string& line : mapping) std::cout << "  " << line << "\n";
  std::cout.flush();
}

void print_dropped(const episode::ImportSummary& summary) {
  if (summary.dropped.empty()) return;
  size_t width = 0, digits = 0;
  for (const auto& [reason, drop] : summary.dropped) {
    width = std::max(width, reason.size());
    digits = std::max(digits, std::to_string(drop.count).size());
  }
  std::cout << "left out\n";
  for (const auto& [reason, drop] : summary.dropped) {
    std::cout << "  " << padded(reason, width) << "  " << padded(std::to_string(drop.count), digits)
              << "  first: " << drop.first << "\n";
  }
}

void print_summary(const episode::ImportSummary& summary, const std::string& out) {
  const std::vector<std::pair<std::string, int64_t>> rows = {{"records", summary.records},
                                                             {"episodes", summary.episodes},
                                                             {"steps", summary.steps},
                                                             {"shards", summary.shards}};
  std::cout << "imported" << (summary.reused ? " (was complete already)" : "") << "\n";
  for (const auto& [name, count] : rows) std::cout << "  " << padded(name, 12) << count << "\n";
  print_dropped(summary);
  std::cout << "the data set is in " << out
            << (summary.reused ? "; nothing was to be done\n" : "; every shard was read back and checked\n");
}

int dry_run(const episode::ForeignFormat& format, const episode::ImportOptions& options) {
  print_mapping(format.mapping());
  std::cout << episode::describe_first_episode(format, options) << "nothing was written (--dry-run)\n";
  return kDone;
}

int import(const ImportCommand& command, const CommonArguments& arguments, const MakeFormat& make_format,
           const std::vector<const CLI::Option*>& own_options) {
  set_thread_budget(arguments.threads);
  if (arguments.out.empty() && !arguments.dry_run) throw ConfigError("--out is required: the folder for the shards");
  episode::ImportOptions options;
  options.info = arguments.info;
  const auto format = make_format(arguments.sources, options.info);
  if (options.info.name.empty()) throw ConfigError("--name is required: the data set's name, such as text/wiki");
  options.out = arguments.out;
  options.drop_damaged = arguments.drop_damaged;
  options.limit = arguments.limit;
  options.shard_bytes = static_cast<uint64_t>(arguments.shard_mib) << 20;
  options.arguments = describe_arguments(command.name, own_options);
  options.info.created_by = cat("gato ", version(), ": gato-data import ", options.arguments);
  if (!arguments.filter.empty()) {
    const episode::LoadedFilter filter = episode::load_content_filter(arguments.filter);
    options.content_filter = filter.filter;
    options.content_filter_digest = filter.digest;
  }
  if (arguments.dry_run) return dry_run(*format, options);
  print_mapping(format->mapping());
  print_summary(episode::import_dataset(*format, options), arguments.out);
  return kDone;
}

Verb add_format(CLI::App& import_verb, ImportCommand command) {
  auto arguments = std::make_shared<CommonArguments>();
  CLI::App* verb = import_verb.add_subcommand(command.name, command.description);
  const MakeFormat make_format = command.add_options(*verb);
  std::vector<const CLI::Option*> own_options;
  for (const CLI::Option* option : std::as_const(*verb).get_options()) {
    if (option != verb->get_help_ptr() && option != verb->get_help_all_ptr()) own_options.push_back(option);
  }
  add_common_options(*verb, command.sources_help, *arguments);
  return [=, command = std::move(command)] {
    return verb->parsed() ? import(command, *arguments, make_format, own_options) : -1;
  };
}

}  // namespace

Verb add_import(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("import", "Make a data set of a foreign format: docs/importing.md");
  verb->require_subcommand(1);
  std::vector<Verb> formats;
  for (ImportCommand& command : import_commands()) formats.push_back(add_format(*verb, std::move(command)));
  return [verb, formats] {
    if (!verb->parsed()) return -1;
    for (const Verb& format : formats) {
      const int code = format();
      if (code >= 0) return code;
    }
    return static_cast<int>(kUsage);
  };
}

}  // namespace gato::cli
