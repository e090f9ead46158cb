#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "gato/episode/import.h"

/// The formats of `gato-data import`: one function each, in a file `data_import_<format>.cpp`, listed in
/// data_import.cpp.
namespace gato::cli {

/// Makes the format after the arguments were parsed. `info` holds what the user said about the data set; what is empty
/// there may be filled in from the source (a name that stays empty is a ConfigError of the verb). Throws ConfigError
/// for wrong arguments, DataError for a source that cannot be understood.
using MakeFormat = std::function<std::unique_ptr<episode::ForeignFormat>(const std::vector<std::string>& sources,
                                                                         episode::DatasetInfo& info)>;

/// One foreign format, which becomes `gato-data import NAME SOURCE...`.
struct ImportCommand {
  std::string name;          ///< "webdataset".
  std::string description;   ///< One line, for --help.
  std::string sources_help;  ///< What SOURCE is: "tar files, or folders of them".
  /// Declares the format's own options. Those that every format has (--out, --name, --licence, --description,
  /// --drop-damaged, --limit, --filter, --threads, --dry-run, --shard-mib) are declared by the verb. The values of own
  /// options decide, with the units of the source, whether an interrupted import may go on, so nothing need be done
  /// for that here.
  std::function<MakeFormat(CLI::App& verb)> add_options;
};

/// `--resize HEIGHTxWIDTH`; 0, 0 for "none". ConfigError for anything else.
struct ImageSize {
  int64_t height = 0, width = 0;
};
[[nodiscard]] ImageSize parse_image_size(const std::string& text);

/// The data set's name as a task id: as it is when it has a domain ("text/wiki"), else with `domain` in front.
/// ConfigError when it is empty.
[[nodiscard]] std::string default_task(const std::string& domain, const episode::DatasetInfo& info);

/// What a source says about itself, where the user did not say otherwise.
void fill_in(episode::DatasetInfo& info, const episode::DatasetInfo& from);

ImportCommand text_import();
ImportCommand webdataset_import();
ImportCommand stream_import();
ImportCommand tfds_import();
ImportCommand csv_import();
ImportCommand minari_import();
ImportCommand d4rl_import();

}  // namespace gato::cli
