#pragma once
#include <memory>
#include <string>
#include <vector>

#include "gato/core/file.h"
#include "gato/episode/import.h"

/// The foreign formats that gato reads itself: docs/importing.md. Every function opens what it needs to know the tasks
/// and throws ConfigError for arguments that do not fit, DataError for sources that cannot be understood, IoError for
/// files that cannot be read.
namespace gato::episode {

/// How documents are cut out of text files.
enum class TextSplit {
  kFile,        ///< A file is a document.
  kParagraphs,  ///< Empty lines divide documents.
  kLines,       ///< A line is a document.
};

struct TextImport {
  std::string task;                    ///< Task id, "domain/name".
  TextSplit split = TextSplit::kFile;  ///< Of plain text; a line of JSONL is always a document.
  std::string field = "text";          ///< JSONL: the key of the text. A dot goes into an object: "doc.body".
  std::string id_field;                ///< JSONL: the key of the document's id; empty: made from file and line.
  std::string licence;                 ///< For the task's specification.
};

/// Plain text (.txt, .md, .text) and JSONL (.jsonl, .ndjson, .json), each also compressed by gzip or zstd, which is
/// seen by the files' first bytes. Folders are searched for such names, in name order.
[[nodiscard]] std::unique_ptr<ForeignFormat> text_format(const std::vector<Path>& sources, TextImport options);

struct WebDatasetImport {
  std::string task;             ///< Task id, "domain/name".
  std::string caption = "txt";  ///< Member with the caption, or "json:KEY" for a key of the member `json`.
  /// Images with questions instead of captions: members or json keys of question and answer. The key of an array of
  /// objects in front ("json:qa[].question") gives one episode per object.
  std::string question, answer;
  int64_t height = 64, width = 64;  ///< Pictures are resized to this; 0, 0: kept as they are, sizes vary.
  std::string licence;              ///< For the task's specification.
};

/// WebDataset tar files: ustar, GNU and pax. Folders are searched for *.tar, in name order.
[[nodiscard]] std::unique_ptr<ForeignFormat> webdataset_format(const std::vector<Path>& sources,
                                                               WebDatasetImport options);

}  // namespace gato::episode
