#include <map>

#include "gato/episode/formats.h"
#include "import_formats.h"

namespace gato::cli {
namespace {

const std::map<std::string, episode::TextSplit> kSplits = {{"file", episode::TextSplit::kFile},
                                                           {"paragraphs", episode::TextSplit::kParagraphs},
                                                           {"lines", episode::TextSplit::kLines}};

const std::map<std::string, episode::TextKind> kKinds = {
    {"auto", episode::TextKind::kByName}, {"plain", episode::TextKind::kPlain}, {"jsonl", episode::TextKind::kJsonl}};

}  // namespace

ImportCommand text_import() {
  return {.name = "text",
          .description = "Documents: plain text and JSONL, also compressed by gzip or zstd",
          .sources_help = "Files, or folders of .txt, .md, .jsonl files (also .gz, .zst)",
          .add_options = [](CLI::App& verb) -> MakeFormat {
            auto options = std::make_shared<episode::TextImport>();
            auto split = std::make_shared<std::string>("file");
            auto kind = std::make_shared<std::string>("auto");
            verb.add_option("--kind", *kind, "What the files are; auto: JSONL by the names .jsonl, .ndjson, .json")
                ->check(CLI::IsMember({"auto", "plain", "jsonl"}));
            verb.add_option("--split", *split, "Plain text: a document is a file, paragraphs or lines")
                ->check(CLI::IsMember({"file", "paragraphs", "lines"}));
            verb.add_option("--field", options->field, "JSONL: key of the text; a dot goes into an object");
            verb.add_option("--id-field", options->id_field, "JSONL: key of the document's id; default: file and line");
            verb.add_option("--task", options->task, "Task id; default: text/ and the data set's name");
            return [options, split, kind](const std::vector<std::string>& sources, episode::DatasetInfo& info) {
              episode::TextImport chosen = *options;
              chosen.split = kSplits.at(*split);
              chosen.kind = kKinds.at(*kind);
              chosen.licence = info.licence;
              if (chosen.task.empty()) chosen.task = default_task("text", info);
              return episode::text_format({sources.begin(), sources.end()}, chosen);
            };
          }};
}

}  // namespace gato::cli
