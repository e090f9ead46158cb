#include <algorithm>
#include <charconv>
#include <utility>

#include "episode/import/tf_example.h"
#include "episode/import/tfds_episode.h"
#include "episode/import/tfds_features.h"
#include "episode/import/tfds_folder.h"
#include "episode/import/tfds_mapping.h"
#include "episode/import/tfds_survey.h"
#include "episode/import/tfrecord.h"
#include "gato/core/error.h"
#include "gato/core/text.h"
#include "gato/episode/formats.h"

namespace gato::episode {
namespace {

constexpr size_t kLongestName = 200;
constexpr size_t kLongestDescription = 400;
constexpr char kIdPart[] = "id";          ///< The part of a RawRecord that carries the episode's id.
constexpr char kDamagePart[] = "damage";  ///< A third part, where the record's checksum is wrong: the message.

Compression compression_of(const std::string& name) {
  if (name == "auto") return Compression::kByMagic;
  if (name == "none") return Compression::kNone;
  if (name == "gzip") return Compression::kGzip;
  if (name == "zlib") return Compression::kZlib;
  throw ConfigError(cat("--compression ", name, ": must be auto, none, gzip or zlib"));
}

/// `name` with what a task id cannot hold replaced by '_'.
std::string id_part(std::string_view name) {
  std::string part;
  for (const char c : name.substr(0, kLongestName)) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       std::string_view("_-.+:").find(c) != std::string_view::npos;
    part += plain ? c : '_';
  }
  if (part.empty()) return "none";
  return part == "." || part == ".." ? "_" : part;
}

/// The records of one file; says at the end whether there were as many as there should be.
class TfdsStream : public RecordStream {
 public:
  TfdsStream(const TfdsFile& file, Compression compression)
      : file_(file), reader_(open_tfrecord(file.path, compression)) {}

  bool next(RawRecord& record) override {
    record.parts.resize(2);
    std::string damage;
    if (!reader_.next(record.parts[0].second, damage)) {
      check_count();
      return false;
    }
    record.parts[0].first.clear();
    record.parts[1] = {kIdPart, cat(file_.path.filename().string(), ":", reader_.count() - 1)};
    record.origin = cat(file_.path.string(), ", record ", reader_.count() - 1, " at byte ", reader_.offset());
    if (!damage.empty()) {  // What is left of it is no example: nobody reads it by mistake.
      record.parts[0].second.clear();
      record.parts.emplace_back(kDamagePart, std::move(damage));
    }
    return true;
  }
  uint64_t position() const override { return reader_.position(); }

 private:
  void check_count() const {
    if (file_.records >= 0 && reader_.count() != file_.records) {
      throw DataError(cat(file_.path.string(), ": ", reader_.count(), " records, dataset_info.json says ",
                          file_.records, "; the file or dataset_info.json is of another version, fetch both again"));
    }
  }

  TfdsFile file_;
  TfRecordReader reader_;
};

class TfdsFormat : public ForeignFormat {
 public:
  TfdsFormat(const Path& source, TfdsImport options)
      : options_(std::move(options)),
        compression_(compression_of(options_.compression)),
        folder_(find_tfds_folder(source)),
        info_(load_tfds_info(folder_)),
        files_(find_tfds_files(folder_, info_, options_.split)),
        plan_(make_tfds_plan(load_tfds_features(folder_), options_)) {
    if (info_.name.empty()) info_.name = "rlds";
    find_codecs();
    const std::vector<TfdsColumn*> unbounded = apply_tfds_bounds(plan_, options_);
    if (!unbounded.empty() && options_.bounds_from_data.empty()) ask_for_bounds(unbounded);
    survey(unbounded);
    for (const TaskSpec& task : tasks_) check_task_spec(task);
  }

  const std::vector<TaskSpec>& tasks() const override { return tasks_; }

  std::vector<ImportUnit> units() const override {
    std::vector<ImportUnit> units;
    for (const TfdsFile& file : files_) units.push_back({file.path.filename().string(), file.bytes});
    return units;
  }

  std::unique_ptr<RecordStream> open(size_t unit) const override {
    return std::make_unique<TfdsStream>(files_.at(unit), compression_);
  }

  ParsedRecord parse(const RawRecord& raw) const override {
    if (raw.parts.size() > 2) throw DataError(raw.parts[2].second);
    const TfExample example = parse_tf_example(raw.parts.at(0).second, raw.origin);
    const TfdsRecord record(plan_, example, raw.origin);
    ParsedRecord parsed;
    if (record.num_steps(options_.keep_last_step) == 0) {
      parsed.dropped = record.num_rows() == 0 ? "no steps" : "only a last step, which holds no action";
      return parsed;
    }
    ParsedRecord::Part part;
    part.task = task_of(record, raw.origin);
    part.episode = make_tfds_episode(plan_, record, options_.keep_last_step);
    part.episode.id = raw.parts.at(1).second;
    part.episode.source_agent = options_.agent;
    if (options_.height > 0) resize_pictures(part.episode, raw.origin);
    parsed.episodes.push_back(std::move(part));
    return parsed;
  }

  std::vector<std::string> mapping() const override {
    std::vector<std::string> lines = describe_tfds_plan(plan_, options_);
    lines.insert(lines.begin(), cat("RLDS data set ", info_.name, info_.config.empty() ? "" : "/", info_.config,
                                    info_.version.empty() ? "" : " ", info_.version, ", split ", options_.split, ", ",
                                    files_.size(), files_.size() == 1 ? " file" : " files"));
    lines.insert(lines.end(), notes_.begin(), notes_.end());
    return lines;
  }

  /// What the data set says about itself.
  DatasetInfo about() const {
    DatasetInfo about;
    about.name = id_part(info_.name) + (info_.config.empty() ? "" : "/" + id_part(info_.config));
    about.description = description();
    about.licence = own_licence();
    return about;
  }

 private:
  /// Pictures whose format features.json leaves open are stored as their first one is.
  void find_codecs() {
    for (TfdsColumn& column : plan_.observation) {
      if (column.source != TfdsColumn::Source::kEncoded || !column.leaf.image_format.empty()) continue;
      for (size_t file = 0; file < files_.size(); ++file) {
        const std::string_view format = first_format(column, file);
        if (format.empty()) continue;
        column.leaf.image_format = format;
        if (format == "jpeg") column.spec.codec = ImageCodec::kJpeg;
        break;
      }
    }
  }

  /// "jpeg" or "png" by the first picture of a file; empty when it has none.
  std::string_view first_format(const TfdsColumn& column, size_t file) const {
    const auto stream = open(file);
    RawRecord raw;
    while (stream->next(raw)) {
      try {
        const TfExample example = parse_tf_example(raw.parts[0].second, raw.origin);
        const std::string_view bytes = TfdsRecord(plan_, example, raw.origin).first_picture(column);
        if (bytes.empty()) continue;
        const ImageHeader header = read_image_header(std::as_bytes(std::span(bytes)), raw.origin);
        return header.format == ImageHeader::Format::kJpeg ? "jpeg" : "png";
      } catch (const DataError&) {  // The import comes to it again, and stops or counts it as the user says.
      }
    }
    return {};
  }

  double tail() const {
    const std::string& text = options_.bounds_from_data;
    double tail = 0;
    if (text == "minmax" || text.empty()) return 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), tail);
    if (error != std::errc{} || end != text.data() + text.size() || !(tail > 0 && tail < 0.5)) {
      throw ConfigError(cat("--bounds-from-data ", text,
                            ": must be minmax, or the share to leave out at each end, in (0, 0.5), such as 0.01"));
    }
    return tail;
  }

  /// Finds the bounds of `unbounded` and the tasks, reading the data once where that is needed.
  void survey(const std::vector<TfdsColumn*>& unbounded) {
    const double share = tail();
    if (unbounded.empty() && !plan_.task) {
      tasks_ = {make_task(options_.task.empty() ? default_task() : options_.task, "")};
      return;
    }
    const auto for_each_record = [&](size_t file,
                                     const std::function<void(int64_t, const std::string&, std::string_view)>& visit) {
      const auto stream = open(file);
      RawRecord raw;
      for (int64_t record = 0; stream->next(raw); ++record) visit(record, raw.origin, raw.parts[0].second);
    };
    const TfdsSurvey found = survey_tfds(plan_, unbounded, options_.keep_last_step, files_.size(), for_each_record);
    for (size_t c = 0; c < unbounded.size(); ++c) {
      set_found_bounds(*unbounded[c], found.bounds[c], share);
    }
    if (found.damaged > 0) {
      notes_.push_back(
          cat(found.damaged, " of ", found.records, " records could not be read and are not in the bounds"));
    }
    make_tasks(found.tasks);
  }

  void set_found_bounds(TfdsColumn& column, const BoundsSampler& sampler, double share) {
    const BoundsSampler::Bounds bounds = sampler.bounds(share);
    column.spec.low.assign(bounds.low.begin(), bounds.low.end());
    column.spec.high.assign(bounds.high.begin(), bounds.high.end());
    column.bounds_from = share == 0 ? cat("the lowest and highest values of ", sampler.rows(), " steps")
                                    : cat("quantiles ", share, " and ", 1 - share, " of ", sampler.rows(), " steps");
    if (bounds.widened > 0) {
      notes_.push_back(cat(column.leaf.path, ": ", bounds.widened, " of ", column.elements(),
                           " elements are constant in the data; their bounds are one below and one above"));
    }
  }

  std::string default_task() const {
    return cat(id_part(info_.name), "/", info_.config.empty() ? "default" : id_part(info_.config));
  }

  void make_tasks(const std::set<std::string>& values) {
    if (!plan_.task) {
      tasks_ = {make_task(options_.task.empty() ? default_task() : options_.task, "")};
      return;
    }
    std::set<std::string> ids;
    for (const std::string& value : values) {
      const std::string base = cat(id_part(info_.name), "/", id_part(value));
      std::string id = base;
      for (int again = 2; !ids.insert(id).second; ++again) id = cat(base, "-", again);
      task_of_value_[value] = static_cast<int>(tasks_.size());
      tasks_.push_back(make_task(id, value));
      notes_.push_back(cat(plan_.task->path, " '", is_valid_utf8(value) ? value : "(not UTF-8)", "' -> task ", id));
    }
    if (tasks_.empty()) throw DataError(cat(folder_.string(), ": no record has steps, so there is nothing to import"));
  }

  TaskSpec make_task(const std::string& id, const std::string& value) const {
    TaskSpec task;
    task.id = id;
    task.description = value.empty() || !is_valid_utf8(value) ? description() : cat(description(), " ", value);
    for (const TfdsColumn& column : plan_.observation) task.observation.push_back(column.spec);
    for (const TfdsColumn& column : plan_.action) task.action.push_back(column.spec);
    task.scoring = Scoring::kLoss;  // No environment comes with the data, so nothing can be played.
    task.licence = options_.licence.empty() ? own_licence() : options_.licence;
    return task;
  }

  std::string own_licence() const { return is_valid_utf8(info_.licence) ? std::string(trim(info_.licence)) : ""; }

  std::string description() const {
    const std::string line(trim(std::string_view(info_.description).substr(0, info_.description.find('\n'))));
    const bool usable = !line.empty() && line.size() <= kLongestDescription && is_valid_utf8(line);
    return usable ? line : cat("RLDS data set ", info_.name, info_.version.empty() ? "" : " ", info_.version);
  }

  int task_of(const TfdsRecord& record, const std::string& origin) const {
    if (!plan_.task) return 0;
    const std::string value = record.text_of(*plan_.task);
    const auto place = task_of_value_.find(value);
    if (place == task_of_value_.end()) throw DataError(cat(origin, ": '", plan_.task->path, "' has an unknown value"));
    return place->second;
  }

  void resize_pictures(Episode& episode, const std::string& origin) const {
    for (size_t c = 0; c < plan_.observation.size(); ++c) {
      if (plan_.observation[c].spec.modality != Modality::kImage) continue;
      Column& column = episode.observation[c];
      const std::vector<std::string> encoded = std::exchange(column.encoded, {});
      for (size_t step = 0; step < encoded.size(); ++step) {
        const std::string place = cat(origin, ": '", plan_.observation[c].leaf.path, "' at step ", step);
        column.images.push_back(resized(decode_image(std::as_bytes(std::span(encoded[step])), place)));
      }
      if (encoded.empty()) {
        for (Image& image : column.images) image = resized(image);
      }
    }
  }

  Image resized(const Image& image) const {
    return resize_image(image, static_cast<int32_t>(options_.height), static_cast<int32_t>(options_.width));
  }

  TfdsImport options_;
  Compression compression_;
  Path folder_;
  TfdsInfo info_;
  std::vector<TfdsFile> files_;
  TfdsPlan plan_;
  std::vector<TaskSpec> tasks_;
  std::map<std::string, int> task_of_value_;
  std::vector<std::string> notes_;
};

}  // namespace

OpenedTfds tfds_format(const Path& source, TfdsImport options) {
  auto format = std::make_unique<TfdsFormat>(source, std::move(options));
  DatasetInfo info = format->about();
  return {std::move(format), std::move(info)};
}

}  // namespace gato::episode
