#include "env/text_corpus.h"

#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/env/fields.h"

namespace gato::env {

namespace {

std::string_view without_line_end(std::string_view line) {
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

}  // namespace

std::vector<Path> corpus_files(const SuiteText& text) {
  std::vector<Path> files;
  for (const std::string& file : text.files) files.push_back(Path(data_root()) / "data" / file);
  return files;
}

std::vector<std::string> read_documents(const Path& file, const std::string& separator) {
  const std::string content = read_file(file);
  size_t bad_offset = 0;
  if (!is_valid_utf8(content, &bad_offset)) {
    throw DataError(cat(file.string(), ": invalid UTF-8 at byte ", bad_offset, ". Convert the file to UTF-8."));
  }
  std::vector<std::string> documents;
  const auto finish_document = [&](std::string_view document) {
    const std::string_view trimmed = trim(document);
    if (!trimmed.empty()) documents.emplace_back(trimmed);
  };
  size_t begin = 0;
  for (size_t line = 0; line < content.size();) {
    const size_t line_end = std::min(content.find('\n', line), content.size());
    const std::string_view text = without_line_end(std::string_view(content).substr(line, line_end - line));
    if (!separator.empty() && text == separator) {
      finish_document(std::string_view(content).substr(begin, line - begin));
      begin = line_end;
    }
    line = line_end + 1;
  }
  finish_document(std::string_view(content).substr(begin));
  if (documents.empty()) throw ConfigError(cat(file.string(), ": there is no document in this file."));
  return documents;
}

episode::TaskSpec corpus_spec(const SuiteText& text) {
  episode::TaskSpec spec;
  spec.id = text.name;
  spec.description = "Documents of a text, to be continued.";
  spec.action = {text_field("text")};
  spec.scoring = episode::Scoring::kLoss;
  spec.max_steps = 1;
  spec.licence = text.licence;
  return spec;
}

}  // namespace gato::env
