#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/episode/formats.h"
#include "import_formats.h"

namespace gato::cli {

void fill_in(episode::DatasetInfo& info, const episode::DatasetInfo& from) {
  if (info.name.empty()) info.name = from.name;
  if (info.description.empty()) info.description = from.description;
  if (info.licence.empty()) info.licence = from.licence;
}

ImportCommand stream_import() {
  return {.name = "stream",
          .description = "Episodes that another program writes: docs/formats/stream.md",
          .sources_help = "A file with a stream, also compressed by zstd or gzip, or - for standard input",
          .add_options = [](CLI::App&) -> MakeFormat {
            return [](const std::vector<std::string>& sources, episode::DatasetInfo& info) {
              if (sources.size() != 1) {
                throw ConfigError(cat("import stream reads one stream, not ", sources.size()));
              }
              episode::OpenedStream stream = episode::stream_format(sources.front());
              fill_in(info, stream.info);
              return std::move(stream.format);
            };
          }};
}

}  // namespace gato::cli
