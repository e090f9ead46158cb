#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "episode/import/json_path.h"
#include "episode/import/source_files.h"
#include "episode/import/tar_reader.h"
#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/text.h"
#include "gato/episode/formats.h"

namespace gato::episode {
namespace {

constexpr uint64_t kMaxSampleBytes = uint64_t{512} << 20;
constexpr std::string_view kId = "/id";  // no member's extension has a '/'

bool is_tar_name(std::string_view name) {
  return name.ends_with(".tar") || name.ends_with(".tar.gz") || name.ends_with(".tgz") || name.ends_with(".tar.zst");
}

std::string lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

/// A member's name as WebDataset reads it: the key is the path up to the first point of the base name.
struct MemberName {
  std::string key, extension;
};

std::optional<MemberName> split_name(const std::string& path) {
  const size_t slash = path.rfind('/');
  const size_t base = slash == std::string::npos ? 0 : slash + 1;
  const size_t point = path.find('.', base);
  if (point == std::string::npos || point == base) return std::nullopt;
  // Names such as __meta__ are about the archive.
  if (path.compare(base, 2, "__") == 0 && path.find("__", base + 2) != std::string::npos) return std::nullopt;
  return MemberName{path.substr(0, point), lower(path.substr(point + 1))};
}

/// Where a text of a sample is: a whole member, or a place in a member with JSON.
struct TextPlace {
  std::string member;
  std::optional<JsonPath> path;

  TextPlace(const std::string& text, std::string_view option) {
    const size_t colon = text.find(':');
    member = lower(text.substr(0, colon));
    if (member.empty()) throw ConfigError(cat(option, " '", text, "': name a member such as txt, or json:KEY"));
    if (colon != std::string::npos) path.emplace(text.substr(colon + 1), option);
  }
  [[nodiscard]] std::string describe() const {
    return path ? cat("key '", path->text(), "' of member ", member) : "member " + member;
  }
};

/// Samples: runs of members with one key. Members that nobody wants are passed over.
class SampleStream final : public RecordStream {
 public:
  SampleStream(const SourceFile& file, const std::set<std::string>& wanted)
      : unit_(file.unit.name), tar_(open_byte_source(file.path), unit_), wanted_(wanted) {}

  bool next(RawRecord& record) override {
    record = {};
    std::string key;
    uint64_t bytes = 0;
    for (; pending_ || tar_.next(entry_); pending_ = false) {
      const std::optional<MemberName> name = entry_.regular ? split_name(entry_.name) : std::nullopt;
      if (!name) continue;
      if (record.parts.empty()) {
        key = name->key;
        record.origin = cat(unit_, ", sample '", key, "' at byte ", entry_.offset);
        record.parts.emplace_back(kId, cat(unit_, "/", key));
      } else if (name->key != key) {
        pending_ = true;
        return true;
      }
      if (!wanted_.contains(name->extension)) continue;
      bytes += entry_.size;
      if (bytes > kMaxSampleBytes) {
        throw DataError(cat(record.origin, ": the sample is larger than ",
                            format_bytes(static_cast<double>(kMaxSampleBytes)), ", the most that is read at once"));
      }
      record.parts.emplace_back(name->extension, tar_.read_content());
    }
    return !record.parts.empty();
  }
  [[nodiscard]] uint64_t position() const override { return tar_.position(); }

 private:
  std::string unit_;
  TarReader tar_;
  const std::set<std::string>& wanted_;
  TarEntry entry_;
  bool pending_ = false;  ///< entry_ belongs to the next sample.
};

/// A picture format by its first bytes that other programs read and we do not; nullptr for none.
const char* foreign_picture(std::string_view bytes) {
  if (bytes.size() >= 12 && bytes.substr(0, 4) == "RIFF" && bytes.substr(8, 4) == "WEBP") return "WebP";
  if (bytes.starts_with("GIF8")) return "GIF";
  if (bytes.starts_with("BM")) return "BMP";
  if (bytes.starts_with(std::string_view("II*\0", 4)) || bytes.starts_with(std::string_view("MM\0*", 4))) return "TIFF";
  if (bytes.size() >= 12 && bytes.substr(4, 4) == "ftyp") return "AVIF or HEIF";
  return nullptr;
}

const std::string* find_part(const RawRecord& record, std::string_view name) {
  for (const auto& [part, content] : record.parts) {
    if (part == name) return &content;
  }
  return nullptr;
}

void check_members_differ(const RawRecord& record) {
  std::set<std::string_view> names;
  for (const auto& [name, content] : record.parts) {
    if (!names.insert(name).second) throw DataError(cat(record.origin, ": member '", name, "' occurs twice"));
  }
}

/// Every item of a list carries the picture once more: a long list must not fill the memory.
void check_copies(uint64_t picture_bytes, size_t count, const std::string& origin) {
  if (picture_bytes + sizeof(Episode) <= kMaxSampleBytes / count) return;
  throw DataError(cat(origin, ": ", count, " episodes with a picture of ", picture_bytes, " bytes each are more than ",
                      format_bytes(static_cast<double>(kMaxSampleBytes)),
                      ", the most that is made of one sample; cut the list into several samples, or use --resize"));
}

/// A text of one episode; why there is none, where there is none.
struct FoundText {
  std::string text;
  std::string missing;
};

class WebDatasetFormat final : public ForeignFormat {
 public:
  WebDatasetFormat(const std::vector<Path>& sources, WebDatasetImport options);

  [[nodiscard]] const std::vector<TaskSpec>& tasks() const override { return tasks_; }
  [[nodiscard]] std::vector<ImportUnit> units() const override { return units_of(files_); }
  [[nodiscard]] std::unique_ptr<RecordStream> open(size_t unit) const override {
    return std::make_unique<SampleStream>(files_.at(unit), wanted_);
  }
  [[nodiscard]] ParsedRecord parse(const RawRecord& record) const override;
  [[nodiscard]] std::vector<std::string> mapping() const override;

 private:
  [[nodiscard]] bool asks() const { return question_.has_value(); }
  [[nodiscard]] bool resizes() const { return options_.height > 0; }
  void check_options() const;
  [[nodiscard]] TaskSpec make_task() const;
  [[nodiscard]] std::vector<FoundText> texts_at(const TextPlace& place, std::string_view what,
                                                const RawRecord& record) const;
  [[nodiscard]] const std::string* picture_of(const RawRecord& record, std::string& dropped) const;
  [[nodiscard]] std::string fitted(const std::string& picture, const std::string& origin) const;

  WebDatasetImport options_;
  std::vector<SourceFile> files_;
  std::optional<TextPlace> question_;
  TextPlace answer_;  ///< Or caption.
  std::set<std::string> wanted_;
  std::vector<TaskSpec> tasks_;
};

WebDatasetFormat::WebDatasetFormat(const std::vector<Path>& sources, WebDatasetImport options)
    : options_(std::move(options)),
      files_(find_source_files(sources, is_tar_name, "*.tar")),
      answer_(options_.answer.empty() ? options_.caption : options_.answer,
              options_.answer.empty() ? "--caption" : "--answer") {
  check_options();
  if (!options_.question.empty()) {
    question_.emplace(options_.question, "--question");
    const std::string none;
    const std::string& list = question_->path ? question_->path->list() : none;
    const std::string& other = answer_.path ? answer_.path->list() : none;
    if (list != other || (!list.empty() && question_->member != answer_.member)) {
      throw ConfigError(
          cat("--question ", options_.question, " and --answer ", options_.answer, " must go through the same list"));
    }
    wanted_.insert(question_->member);
  }
  for (std::string& name : options_.images) name = lower(name);
  wanted_.insert(options_.images.begin(), options_.images.end());
  wanted_.insert(answer_.member);
  tasks_ = {make_task()};
  check_task_spec(tasks_.front());
}

void WebDatasetFormat::check_options() const {
  if (options_.question.empty() != options_.answer.empty()) {
    throw ConfigError("--question and --answer must be given together");
  }
  if (options_.images.empty()) throw ConfigError("--image must name at least one member, such as jpg");
  if ((options_.height > 0) != (options_.width > 0) || options_.height < 0 || options_.width < 0 ||
      std::max(options_.height, options_.width) > ImageLimits{}.max_side) {
    throw ConfigError(cat("pictures cannot be resized to ", options_.height, " x ", options_.width));
  }
}

TaskSpec WebDatasetFormat::make_task() const {
  TaskSpec task;
  task.id = options_.task;
  task.description = asks() ? "Answer a question about a picture." : "Say what a picture shows.";
  FieldSpec image;
  image.name = "image";
  image.modality = Modality::kImage;
  image.shape = {options_.height, options_.width, 3};
  image.codec = options_.codec;
  task.observation.push_back(std::move(image));
  FieldSpec text;
  text.modality = Modality::kText;
  if (asks()) {
    text.name = "question";
    task.observation.push_back(text);
  }
  text.name = "text";
  task.action.push_back(std::move(text));
  // Many sentences describe a picture; short answers can be right or wrong.
  task.scoring = asks() ? Scoring::kExactMatch : Scoring::kLoss;
  task.max_steps = 1;
  task.licence = options_.licence;
  return task;
}

std::vector<FoundText> WebDatasetFormat::texts_at(const TextPlace& place, std::string_view what,
                                                  const RawRecord& record) const {
  const std::string* member = find_part(record, place.member);
  if (member == nullptr) return {{{}, cat("no ", what, ": no member ", place.member)}};
  std::vector<FoundText> found;
  const auto add = [&](std::string_view text) {
    const std::string_view trimmed = trim(text);
    found.push_back({std::string(trimmed), trimmed.empty() ? cat("empty ", what) : std::string()});
  };
  if (!place.path) {
    size_t bad = 0;
    if (!is_valid_utf8(*member, &bad)) {
      throw DataError(cat(record.origin, ": member '", place.member, "' is not valid UTF-8 at byte ", bad));
    }
    add(*member);
    return found;
  }
  const Json json = parse_json(*member, cat(record.origin, ", member '", place.member, "'"));
  for (const Json* value : place.path->find(json)) {
    if (value == nullptr || value->is_null()) {
      found.push_back({{}, cat("no ", what, ": no key '", place.path->text(), "'")});
    } else if (value->is_string()) {
      add(value->get_ref<const std::string&>());
    } else {
      throw DataError(cat(record.origin, ": '", place.path->text(), "' of member '", place.member, "' is not a text"));
    }
  }
  return found;
}

const std::string* WebDatasetFormat::picture_of(const RawRecord& record, std::string& dropped) const {
  for (const std::string& name : options_.images) {
    const std::string* picture = find_part(record, name);
    if (picture == nullptr) continue;
    if (const char* format = foreign_picture(*picture)) {
      dropped = cat("picture is ", format, ", only JPEG and PNG are read");
      return nullptr;
    }
    return picture;
  }
  dropped = "no picture: no member " + join(options_.images, ", ");
  return nullptr;
}

/// The picture in the size of the task; its own bytes where they have that size. What comes out is checked again by the
/// driver, so bytes that are kept are not decoded here.
std::string WebDatasetFormat::fitted(const std::string& picture, const std::string& origin) const {
  const auto bytes = std::as_bytes(std::span(picture));
  const ImageHeader header = read_image_header(bytes, origin);
  if (!resizes() || (header.height == options_.height && header.width == options_.width)) return picture;
  return encode_image(resize_image(decode_image(bytes, origin), static_cast<int32_t>(options_.height),
                                   static_cast<int32_t>(options_.width)),
                      options_.codec);
}

ParsedRecord WebDatasetFormat::parse(const RawRecord& record) const {
  check_members_differ(record);
  ParsedRecord parsed;
  const std::string* picture = picture_of(record, parsed.dropped);
  if (picture == nullptr) return parsed;
  const std::vector<FoundText> answers = texts_at(answer_, asks() ? "answer" : "caption", record);
  const std::vector<FoundText> questions =
      asks() ? texts_at(*question_, "question", record) : std::vector<FoundText>(answers.size());
  const bool listed = answer_.path && !answer_.path->list().empty();
  if (answers.empty()) parsed.dropped = cat("no item in the list '", answer_.path->list(), "'");
  std::string stored;
  for (size_t i = 0; i < std::min(answers.size(), questions.size()); ++i) {
    const std::string& missing = questions[i].missing.empty() ? answers[i].missing : questions[i].missing;
    if (!missing.empty()) {
      parsed.dropped = missing;
      continue;
    }
    if (stored.empty()) {
      stored = fitted(*picture, record.origin);
      check_copies(stored.size(), answers.size(), record.origin);
    }
    Episode episode;
    episode.id = *find_part(record, kId);
    if (listed) episode.id += cat("#", i);
    episode.num_steps = 1;
    episode.terminated = true;
    episode.observation.resize(tasks_.front().observation.size());
    episode.observation[0].encoded.push_back(stored);
    if (asks()) episode.observation[1].text.push_back(questions[i].text);
    episode.action.resize(1);
    episode.action[0].text.push_back(answers[i].text);
    parsed.episodes.push_back({0, std::move(episode)});
  }
  return parsed;
}

std::vector<std::string> WebDatasetFormat::mapping() const {
  const std::string codec = options_.codec == ImageCodec::kJpeg ? "JPEG" : "PNG";
  const std::string size = resizes() ? cat("resized to ", options_.height, "x", options_.width, ", stored as ", codec)
                                     : cat("in its own size, stored as ", codec);
  std::vector<std::string> lines = {cat("member ", join(options_.images, " or "), " -> image observation `image`, ",
                                        size, " (its own bytes where it is so already)")};
  if (asks()) lines.push_back(question_->describe() + " -> text observation `question`, trimmed");
  lines.push_back(answer_.describe() + " -> text action `text`, trimmed");
  lines.push_back(cat("task ", options_.task, "; episode id: file name and sample key"));
  if (!resizes()) lines.emplace_back("note: sizes vary, and training needs one size: see --resize");
  lines.emplace_back("all other members: not used");
  return lines;
}

}  // namespace

std::unique_ptr<ForeignFormat> webdataset_format(const std::vector<Path>& sources, WebDatasetImport options) {
  return std::make_unique<WebDatasetFormat>(sources, std::move(options));
}

}  // namespace gato::episode
