#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
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

enum class TextKind {
  kByName,  ///< JSONL when the name, without .gz or .zst, ends in .jsonl, .ndjson or .json; plain otherwise.
  kPlain,
  kJsonl,
};

struct TextImport {
  std::string task;  ///< Task id, "domain/name".
  TextKind kind = TextKind::kByName;
  TextSplit split = TextSplit::kFile;  ///< Of plain text; a line of JSONL is always a document.
  std::string field = "text";          ///< JSONL: the key of the text. A dot goes into an object: "doc.body".
  std::string id_field;                ///< JSONL: the key of the document's id; empty: made from file and line.
  std::string licence;                 ///< For the task's specification.
};

/// Plain text (.txt, .md, .text) and JSONL (.jsonl, .ndjson, .json), each also compressed by gzip or zstd, which is
/// seen by the files' first bytes. Folders are searched for such names, in name order.
[[nodiscard]] std::unique_ptr<ForeignFormat> text_format(const std::vector<Path>& sources, TextImport options);

struct WebDatasetImport {
  std::string task;                                          ///< Task id, "domain/name".
  std::vector<std::string> images = {"jpg", "jpeg", "png"};  ///< Members that may hold the picture; the first found.
  /// Where the caption is: a member such as "txt", or "json:KEY.KEY" inside a member with JSON.
  std::string caption = "txt";
  /// Given both, they make questions about pictures instead of captions; "json:LIST[].KEY" gives an episode for each
  /// item of a list. Both go through the same list then.
  std::string question, answer;
  int64_t height = 64, width = 64;       ///< Pictures are resized to this; 0, 0: kept as they are, sizes vary.
  ImageCodec codec = ImageCodec::kJpeg;  ///< How pictures are stored; those that come so, in the right size, are kept.
  std::string licence;                   ///< For the task's specification.
};

/// WebDataset tar files: ustar, GNU and pax. Folders are searched for *.tar, in name order.
[[nodiscard]] std::unique_ptr<ForeignFormat> webdataset_format(const std::vector<Path>& sources,
                                                               WebDatasetImport options);

/// A stream of episodes (docs/formats/stream.md) and what its header says about the data set; `info.name` may be empty.
struct OpenedStream {
  std::unique_ptr<ForeignFormat> format;
  DatasetInfo info;
};

/// A file with a stream, also compressed by zstd or gzip; "-" is standard input, not compressed. Reads the header.
/// Episodes without an id get one from their number.
[[nodiscard]] OpenedStream stream_format(const Path& file);

/// The stream of a program: reads `descriptor` (which stays the caller's, open as long as the format) once, `name` is
/// for messages and for resuming. `finished` is called when the stream ended, well or not; it may throw what went wrong
/// with the program, and is then what the user sees.
[[nodiscard]] OpenedStream stream_format(int descriptor, const std::string& name, std::function<void()> finished);

/// Tables of steps: a row per step, the rows of an episode one after the other. `mapping` is a YAML file that says
/// which columns make which fields: docs/importing.md. Episode ids are those of the table, with the file's name in
/// front where there are several files.
[[nodiscard]] std::unique_ptr<ForeignFormat> csv_format(const std::vector<Path>& files, const Path& mapping);

/// How an RLDS data set is read.
struct TfdsImport {
  std::string split = "train";       ///< A split's name, or several joined by "+".
  std::string compression = "auto";  ///< Of the files: auto, none, gzip, zlib.
  std::string task;                  ///< Task id; empty: DATASET/CONFIG, or DATASET/default.
  std::string task_from;             ///< Leaf whose value makes the task of an episode, such as episode_metadata/scene.
  std::string success_from;          ///< Leaf that says whether an episode succeeded; empty: unknown.
  std::string agent = "unknown";     ///< Who acted.
  std::vector<Path> maps;            ///< Map files (names, types, what is left out); later ones win.
  Path bounds;                       ///< YAML: field name or path -> {low, high}; empty: none.
  std::optional<double> action_low, action_high;  ///< For continuous actions without other bounds.
  /// Computes the bounds that are missing by reading all data: "minmax", or the share of values to leave out at each
  /// end ("0.01"). Empty: missing bounds are a ConfigError.
  std::string bounds_from_data;
  std::map<std::string, int64_t> values;  ///< Integers: field name or path -> number of values.
  bool keep_last_step = false;            ///< Whether the step marked is_last is kept: docs/importing.md.
  int64_t height = 0, width = 0;          ///< Pictures are resized to this; 0, 0: kept as they are.
  std::string licence;                    ///< For the task's specification; empty: the data set's own.
};

/// An opened RLDS data set, and what its description says about it (`info.name` is DATASET/CONFIG or DATASET).
struct OpenedTfds {
  std::unique_ptr<ForeignFormat> format;
  DatasetInfo info;
};

/// An RLDS data set in TFDS's layout: a folder with features.json, TFRecord files of one episode per record and, where
/// there is one, dataset_info.json. Reads the data once when `bounds_from_data` or `task_from` need it. Throws
/// ConfigError that lists everything that must be said about the data (bounds of actions, ranges of integers).
[[nodiscard]] OpenedTfds tfds_format(const Path& source, TfdsImport options);

}  // namespace gato::episode
