#include <array>
#include <nlohmann/json.hpp>

#include "episode/import/json_path.h"
#include "episode/import/line_reader.h"
#include "episode/import/source_files.h"
#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/text.h"
#include "gato/episode/formats.h"

namespace gato::episode {
namespace {

/// A document, and so a line, may be so long; it is held in memory a few times over.
constexpr size_t kMaxDocumentBytes = size_t{256} << 20;
constexpr size_t kMaxJsonLineBytes = size_t{64} << 20;

constexpr std::string_view kId = "id";  // the part of a record beside the nameless text

constexpr std::array<std::string_view, 3> kJsonlNames = {".jsonl", ".ndjson", ".json"};
constexpr std::array<std::string_view, 3> kPlainNames = {".txt", ".text", ".md"};

std::string_view without_compression(std::string_view name) {
  for (const std::string_view ending : {".gz", ".zst", ".zstd"}) {
    if (name.ends_with(ending)) return name.substr(0, name.size() - ending.size());
  }
  return name;
}

template <size_t N>
bool ends_with_any(std::string_view name, const std::array<std::string_view, N>& endings) {
  for (const std::string_view ending : endings) {
    if (name.ends_with(ending)) return true;
  }
  return false;
}

bool is_jsonl_name(std::string_view name) { return ends_with_any(without_compression(name), kJsonlNames); }

bool is_text_name(std::string_view name) {
  return is_jsonl_name(name) || ends_with_any(without_compression(name), kPlainNames);
}

std::string_view split_name(TextSplit split) {
  constexpr std::array<std::string_view, 3> kNames = {"file", "paragraph", "line"};
  return kNames[static_cast<size_t>(split)];
}

/// Where a document begins.
struct Place {
  std::string id, origin;
};

Place place_of(const std::string& unit, const LineReader& lines) {
  return {cat(unit, ":", lines.line_number()),
          cat(unit, ", line ", lines.line_number(), " at byte ", lines.line_offset())};
}

RawRecord make_record(Place place, std::string text) {
  RawRecord record;
  record.origin = std::move(place.origin);
  record.parts.emplace_back(kId, std::move(place.id));
  record.parts.emplace_back(std::string(), std::move(text));
  return record;
}

/// A document per line.
class LineStream final : public RecordStream {
 public:
  LineStream(const SourceFile& file, size_t max_line_bytes)
      : unit_(file.unit.name), lines_(open_byte_source(file.path), unit_, max_line_bytes) {}
  bool next(RawRecord& record) override {
    std::string line;
    if (!lines_.next(line)) return false;
    record = make_record(place_of(unit_, lines_), std::move(line));
    return true;
  }
  [[nodiscard]] uint64_t position() const override { return lines_.position(); }

 private:
  std::string unit_;
  LineReader lines_;
};

/// A document per run of lines that are not blank.
class ParagraphStream final : public RecordStream {
 public:
  explicit ParagraphStream(const SourceFile& file)
      : unit_(file.unit.name), lines_(open_byte_source(file.path), unit_, kMaxDocumentBytes) {}
  bool next(RawRecord& record) override {
    std::string line, text;
    Place place;
    while (lines_.next(line)) {
      if (trim(line).empty()) {
        if (!text.empty()) break;
        continue;
      }
      if (text.empty()) {
        place = place_of(unit_, lines_);
      } else {
        text += '\n';
      }
      if (text.size() + line.size() > kMaxDocumentBytes) {
        throw DataError(cat(place.origin, ": the paragraph that begins here is longer than ",
                            format_bytes(kMaxDocumentBytes), "; use --split lines"));
      }
      text += line;
    }
    if (text.empty()) return false;
    record = make_record(std::move(place), std::move(text));
    return true;
  }
  [[nodiscard]] uint64_t position() const override { return lines_.position(); }

 private:
  std::string unit_;
  LineReader lines_;
};

/// The whole file as a document.
class FileStream final : public RecordStream {
 public:
  explicit FileStream(const SourceFile& file) : unit_(file.unit.name), source_(open_byte_source(file.path)) {}
  bool next(RawRecord& record) override {
    if (done_) return false;
    done_ = true;
    constexpr size_t kPieceBytes = size_t{1} << 20;
    std::string text;
    for (size_t count = kPieceBytes; count == kPieceBytes;) {
      const size_t before = text.size();
      text.resize(before + kPieceBytes);
      count = source_->read(std::span(text).subspan(before));
      text.resize(before + count);
      if (text.size() > kMaxDocumentBytes) {
        throw DataError(cat(unit_, ": longer than ", format_bytes(kMaxDocumentBytes),
                            ", the most for one document; use --split paragraphs or lines"));
      }
    }
    if (text.starts_with("\xef\xbb\xbf")) text.erase(0, 3);
    record = make_record({unit_, unit_}, std::move(text));
    return true;
  }
  [[nodiscard]] uint64_t position() const override { return source_->position(); }

 private:
  std::string unit_;
  std::unique_ptr<ByteSource> source_;
  bool done_ = false;
};

class TextFormat final : public ForeignFormat {
 public:
  TextFormat(const std::vector<Path>& sources, TextImport options)
      : options_(std::move(options)),
        field_(options_.field, "--field"),
        files_(find_source_files(sources, is_text_name, "*.txt, *.text, *.md, *.jsonl, *.ndjson, *.json (.gz, .zst)")) {
    if (!options_.id_field.empty()) id_field_.emplace(options_.id_field, "--id-field");
    for (const auto& [path, option] :
         {std::pair(&field_, "--field"), std::pair(id_field_ ? &*id_field_ : nullptr, "--id-field")}) {
      if (path != nullptr && !path->list().empty()) {
        throw ConfigError(cat(option, " '", path->text(), "': a line is one document, so no list can be gone through"));
      }
    }
    TaskSpec task;
    task.id = options_.task;
    task.description = "Text documents: the model goes on writing.";
    FieldSpec text;
    text.name = "text";
    text.modality = Modality::kText;
    task.action.push_back(std::move(text));
    task.scoring = Scoring::kLoss;
    task.max_steps = 1;
    task.licence = options_.licence;
    tasks_.push_back(std::move(task));
    check_task_spec(tasks_.front());
  }

  [[nodiscard]] const std::vector<TaskSpec>& tasks() const override { return tasks_; }
  [[nodiscard]] std::vector<ImportUnit> units() const override { return units_of(files_); }
  [[nodiscard]] std::unique_ptr<RecordStream> open(size_t unit) const override;
  [[nodiscard]] ParsedRecord parse(const RawRecord& record) const override;
  [[nodiscard]] std::vector<std::string> mapping() const override;

 private:
  [[nodiscard]] bool is_jsonl(const SourceFile& file) const {
    if (options_.kind != TextKind::kByName) return options_.kind == TextKind::kJsonl;
    return is_jsonl_name(file.path.filename().string());
  }
  /// False: the line has no text, see `dropped`.
  bool read_json_line(const std::string& line, const std::string& origin, std::string& text, std::string& id,
                      std::string& dropped) const;

  TextImport options_;
  JsonPath field_;
  std::optional<JsonPath> id_field_;
  std::vector<SourceFile> files_;
  std::vector<TaskSpec> tasks_;
};

constexpr std::string_view kJson = "json";  // the name of the part that is a line of JSONL

std::unique_ptr<RecordStream> TextFormat::open(size_t unit) const {
  const SourceFile& file = files_.at(unit);
  if (is_jsonl(file)) {
    class JsonLines final : public RecordStream {
     public:
      explicit JsonLines(const SourceFile& from) : lines_(from, kMaxJsonLineBytes) {}
      bool next(RawRecord& record) override {
        if (!lines_.next(record)) return false;
        record.parts.back().first = kJson;
        return true;
      }
      [[nodiscard]] uint64_t position() const override { return lines_.position(); }

     private:
      LineStream lines_;
    };
    return std::make_unique<JsonLines>(file);
  }
  if (options_.split == TextSplit::kLines) return std::make_unique<LineStream>(file, kMaxDocumentBytes);
  if (options_.split == TextSplit::kParagraphs) return std::make_unique<ParagraphStream>(file);
  return std::make_unique<FileStream>(file);
}

bool TextFormat::read_json_line(const std::string& line, const std::string& origin, std::string& text, std::string& id,
                                std::string& dropped) const {
  const Json json = parse_json(line, origin, {.max_bytes = kMaxJsonLineBytes});
  if (!json.is_object()) {
    throw DataError(cat(origin,
                        ": a line of JSONL must be one object; if the file is one JSON array, write its items "
                        "a line each (jq -c '.[]')"));
  }
  const Json* value = field_.find(json).front();
  if (value == nullptr || value->is_null()) {
    dropped = cat("no key '", field_.text(), "'");
    return false;
  }
  if (!value->is_string()) throw DataError(cat(origin, ": '", field_.text(), "' is not a text; see --field"));
  text = value->get<std::string>();
  if (!id_field_) return true;
  const Json* name = id_field_->find(json).front();
  if (name == nullptr || !(name->is_string() || name->is_number_integer())) {
    throw DataError(cat(origin, ": '", id_field_->text(), "' is no id: it must be a text or a whole number"));
  }
  id = name->is_string() ? name->get<std::string>() : name->dump();
  return true;
}

ParsedRecord TextFormat::parse(const RawRecord& record) const {
  std::string id = record.parts.at(0).second;
  const auto& [kind, content] = record.parts.at(1);
  ParsedRecord parsed;
  std::string text;
  if (kind != kJson) {
    text = content;
  } else {
    if (trim(content).empty()) {
      parsed.dropped = "empty line";
      return parsed;
    }
    if (!read_json_line(content, record.origin, text, id, parsed.dropped)) return parsed;
  }
  if (trim(text).empty()) {
    parsed.dropped = "empty text";
    return parsed;
  }
  size_t bad = 0;
  if (!is_valid_utf8(text, &bad)) {
    throw DataError(cat(record.origin, ": not valid UTF-8 at byte ", bad,
                        " of the document; convert the file (iconv -f LATIN1 -t UTF-8)"));
  }
  Episode episode;
  episode.id = std::move(id);
  episode.num_steps = 1;
  episode.terminated = true;
  episode.action.resize(1);
  episode.action[0].text.push_back(std::move(text));
  parsed.episodes.push_back({0, std::move(episode)});
  return parsed;
}

std::vector<std::string> TextFormat::mapping() const {
  bool plain = false, jsonl = false;
  for (const SourceFile& file : files_) (is_jsonl(file) ? jsonl : plain) = true;
  std::vector<std::string> lines;
  if (plain) {
    lines.push_back(cat("plain text: every ", split_name(options_.split), " -> a document of task ", options_.task,
                        ", text action `text`"));
  }
  if (jsonl) {
    lines.push_back(cat("JSONL: key '", options_.field, "' of every line -> a document of task ", options_.task,
                        ", text action `text`"));
    lines.push_back(id_field_ ? cat("JSONL: key '", options_.id_field, "' -> episode id")
                              : "episode id: file name and line");
    lines.emplace_back("JSONL: all other keys: not used");
  } else {
    lines.emplace_back(options_.split == TextSplit::kFile ? "episode id: file name" : "episode id: file name and line");
  }
  return lines;
}

}  // namespace

std::unique_ptr<ForeignFormat> text_format(const std::vector<Path>& sources, TextImport options) {
  return std::make_unique<TextFormat>(sources, std::move(options));
}

}  // namespace gato::episode
