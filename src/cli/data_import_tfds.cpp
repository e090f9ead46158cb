#include <charconv>

#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/episode/formats.h"
#include "import_formats.h"

namespace gato::cli {
namespace {

/// What the options say before they are understood.
struct Arguments {
  episode::TfdsImport options;
  std::vector<std::string> maps, values;
  std::string bounds, resize = "none", last_step = "drop";
};

/// "FIELD=N" items as a map.
std::map<std::string, int64_t> parse_values(const std::vector<std::string>& items) {
  std::map<std::string, int64_t> values;
  for (const std::string& item : items) {
    const size_t divider = item.rfind('=');
    const char* begin = item.data() + (divider == std::string::npos ? item.size() : divider + 1);
    const char* end = item.data() + item.size();
    int64_t count = 0;
    const auto [stop, error] = std::from_chars(begin, end, count);
    if (divider == std::string::npos || divider == 0 || error != std::errc{} || stop != end || count < 1) {
      throw ConfigError(cat("--values ", item, ": must be FIELD=N, such as gripper=3 for the values 0, 1 and 2"));
    }
    values[item.substr(0, divider)] = count;
  }
  return values;
}

void add_options(CLI::App& verb, Arguments& arguments) {
  episode::TfdsImport& options = arguments.options;
  verb.add_option("--split", options.split, "Split to read, or several joined by +");
  verb.add_option("--compression", options.compression, "Of the TFRecord files: auto, none, gzip or zlib");
  verb.add_option("--map", arguments.maps, "YAML: names and types of fields, what is left out (docs/importing.md)")
      ->check(CLI::ExistingFile);
  verb.add_option("--bounds", arguments.bounds, "YAML: FIELD: {low: L, high: H}, numbers or lists")
      ->check(CLI::ExistingFile);
  verb.add_option("--action-low", options.action_low, "Lower bound of continuous actions without another one");
  verb.add_option("--action-high", options.action_high, "Upper bound of them");
  verb.add_option("--bounds-from-data", options.bounds_from_data,
                  "Compute bounds that are missing: minmax, or the share to leave out at each end, such as 0.01");
  verb.add_option("--values", arguments.values, "FIELD=N: integers of that field are 0 to N - 1");
  verb.add_option("--last-step", arguments.last_step, "drop or keep the step marked is_last (docs/importing.md)")
      ->check(CLI::IsMember({"drop", "keep"}));
  verb.add_option("--resize", arguments.resize, "HEIGHTxWIDTH of the stored pictures, or none");
  verb.add_option("--task", options.task, "Task id; default: DATASET/CONFIG or DATASET/default");
  verb.add_option("--task-from", options.task_from, "Leaf whose values make tasks, such as episode_metadata/scene");
  verb.add_option("--success-from", options.success_from, "Leaf that says whether an episode succeeded");
  verb.add_option("--agent", options.agent, "Who acted; prompts come from episodes of the same agent");
}

std::unique_ptr<episode::ForeignFormat> make_format(const Arguments& arguments, const std::vector<std::string>& sources,
                                                    episode::DatasetInfo& info) {
  if (sources.size() != 1) throw ConfigError("one folder at a time: the data set's, with features.json");
  const ImageSize size = parse_image_size(arguments.resize);
  episode::TfdsImport options = arguments.options;
  options.maps.assign(arguments.maps.begin(), arguments.maps.end());
  options.bounds = arguments.bounds;
  options.values = parse_values(arguments.values);
  options.keep_last_step = arguments.last_step == "keep";
  options.height = size.height;
  options.width = size.width;
  options.licence = info.licence;
  episode::OpenedTfds opened = episode::tfds_format(sources[0], options);
  if (info.name.empty()) info.name = opened.info.name;
  if (info.description.empty()) info.description = opened.info.description;
  if (info.licence.empty()) info.licence = opened.info.licence;
  return std::move(opened.format);
}

}  // namespace

ImportCommand tfds_import() {
  return {.name = "tfds",
          .description = "RLDS episodes in TFDS's layout: features.json and TFRecord files",
          .sources_help = "The data set's folder, such as DATASET/1.0.0",
          .add_options = [](CLI::App& verb) -> MakeFormat {
            auto arguments = std::make_shared<Arguments>();
            add_options(verb, *arguments);
            return [arguments](const std::vector<std::string>& sources, episode::DatasetInfo& info) {
              return make_format(*arguments, sources, info);
            };
          }};
}

}  // namespace gato::cli
