#pragma once
#include <functional>
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

/// A stream of episodes (docs/formats/stream.md) and what its header says about the data set; `info.name` may be empty.
struct OpenedStream {
  std::unique_ptr<ForeignFormat> format;
  DatasetInfo info;
};

/// A file with a stream, also compressed by zstd; "-" is standard input. Reads the header. Episodes without an id get
/// one from their number.
[[nodiscard]] OpenedStream stream_format(const Path& file);

/// The stream of a program: reads `descriptor` (which stays the caller's, open as long as the format) once, `name` is
/// for messages and for resuming. `finished` is called when the stream ended, well or not; it may throw what went wrong
/// with the program, and is then what the user sees.
[[nodiscard]] OpenedStream stream_format(int descriptor, const std::string& name, std::function<void()> finished);

/// Tables of steps: a row per step, the rows of an episode one after the other. `mapping` is a YAML file that says
/// which columns make which fields: docs/importing.md. Episode ids are those of the table, with the file's name in
/// front where there are several files.
[[nodiscard]] std::unique_ptr<ForeignFormat> csv_format(const std::vector<Path>& files, const Path& mapping);

}  // namespace gato::episode
