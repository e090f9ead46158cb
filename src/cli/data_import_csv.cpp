#include "gato/episode/formats.h"
#include "import_formats.h"

namespace gato::cli {

ImportCommand csv_import() {
  return {.name = "csv",
          .description = "Tables with a row per step; a YAML file says what the columns are",
          .sources_help = "Tables with the same columns, also compressed by zstd or gzip",
          .add_options = [](CLI::App& verb) -> MakeFormat {
            auto mapping = std::make_shared<std::string>();
            verb.add_option("--mapping", *mapping, "YAML file: the task, and which columns make which fields")
                ->required()
                ->check(CLI::ExistingFile);
            return [mapping](const std::vector<std::string>& sources, episode::DatasetInfo& info) {
              auto format = episode::csv_format({sources.begin(), sources.end()}, *mapping);
              const episode::TaskSpec& task = format->tasks().front();
              fill_in(info, {task.id, task.description, task.licence, ""});
              return format;
            };
          }};
}

}  // namespace gato::cli
