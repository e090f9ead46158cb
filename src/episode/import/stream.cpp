#include <google/protobuf/stubs/logging.h>
#include <unistd.h>

#include <mutex>
#include <utility>

#include "episode/group.h"
#include "episode/import/stream_episode.h"
#include "episode/import/stream_input.h"
#include "episode/shard_footer.h"
#include "episode/stream.pb.h"
#include "gato/core/error.h"
#include "gato/core/excerpt.h"
#include "gato/core/text.h"
#include "gato/episode/formats.h"

namespace gato::episode {
namespace {

constexpr uint32_t kVersion = 1;
constexpr size_t kMaxHeaderBytes = size_t{8} << 20;  // As a shard's footer.
constexpr size_t kMaxNoteBytes = size_t{64} << 10;   // Of a message Dropped or End.
constexpr size_t kMaxReasonBytes = 100;
constexpr size_t kMaxLineBytes = 300;

/// Names of the parts of a RawRecord beside the frame itself, whose name is empty.
constexpr std::string_view kIdPart = "id", kProblemPart = "problem";

struct StreamHeader {
  DatasetInfo info;
  std::vector<TaskSpec> tasks;
  std::vector<std::string> mapping;
};

template <class Message>
Message parse_message(std::string_view content, size_t max_bytes, std::string_view what) {
  const google::protobuf::LogSilencer silencer;  // The library would print its own lines on standard error.
  Message message;
  if (content.size() > max_bytes || !message.ParseFromArray(content.data(), static_cast<int>(content.size()))) {
    throw DataError(cat(what, " of ", content.size(), " bytes is damaged, or longer than ", max_bytes, " bytes"));
  }
  return message;
}

/// For writers that say nothing themselves.
void describe_tasks(StreamHeader& header) {
  for (const TaskSpec& task : header.tasks) {
    for (const Group group : {Group::kObservation, Group::kAction}) {
      for (const FieldSpec& field : fields_of(task, group)) {
        header.mapping.push_back(cat(column_name(task, group, field), ": ", modality_name(field.modality)));
      }
    }
  }
}

StreamHeader load_header(std::string_view content) {
  const auto message = parse_message<stream::Header>(content, kMaxHeaderBytes, "a header");
  if (message.version() != kVersion) {
    throw DataError(cat("format version ", message.version(), ", this program reads version ", kVersion));
  }
  StreamHeader header;
  if (message.dataset().name().empty()) {  // The user may name it.
    header.info = {"", message.dataset().description(), message.dataset().licence(), ""};
  } else {
    header.info = load_dataset_info(message.dataset());
  }
  header.tasks = load_tasks(message.dataset());
  for (const std::string& line : message.mapping()) header.mapping.push_back(excerpt(line, kMaxLineBytes));
  if (header.mapping.empty()) describe_tasks(header);
  return header;
}

StreamHeader read_header(FrameReader& frames) {
  std::string frame;
  if (!frames.next(frame)) {
    throw DataError(cat(frames.name(), ": is empty; whatever should write the stream wrote nothing"));
  }
  try {
    const FrameView view = view_frame(frame);
    check_frame(view);
    if (view.kind != FrameKind::kHeader) throw DataError("the first frame is no header");
    return load_header(view.content);
  } catch (const Error& error) {
    throw DataError(cat(frames.name(), ": no header of an episode stream (docs/formats/stream.md): ", error.what()));
  }
}

/// Frames as records: counted, with an end that says the same. (That ids are unique the driver sees to.)
class StreamRecords : public RecordStream {
 public:
  StreamRecords(std::unique_ptr<FrameReader> frames, std::function<void()> finished)
      : frames_(std::move(frames)), finished_(std::move(finished)) {}

  bool next(RawRecord& record) override {
    record.parts.clear();
    std::string frame;
    while (next_frame(frame)) {
      record.origin = cat(frames_->name(), ", record ", records_, " at byte ", frames_->frame_offset());
      FrameView view;
      try {
        view = view_frame(frame);
      } catch (const DataError& error) {
        return damaged(record, error.what());
      }
      switch (view.kind) {
        case FrameKind::kEpisode:
          return take_episode(view, frame, record);
        case FrameKind::kDropped:
          return take_note(view, frame, record);
        case FrameKind::kHeader:
          throw DataError(cat(record.origin, ": a second header; a stream has one, at its beginning"));
        case FrameKind::kEnd:
          check_end(view, record.origin);
          return false;
        case FrameKind::kOther:
          break;
      }
    }
    throw ended_early();
  }

  [[nodiscard]] uint64_t position() const override { return frames_->input_position(); }

 private:
  /// The writer's own failure, where it is known, explains more than a stream that stops or cannot be cut.
  bool next_frame(std::string& frame) {
    try {
      return frames_->next(frame);
    } catch (const DataError&) {
      if (finished_) finished_();
      throw;
    }
  }

  [[nodiscard]] std::string damage() const {
    return counts_known_ ? "" : cat(" beside ", records_ - episodes_ - dropped_, " damaged frames");
  }

  bool damaged(RawRecord& record, const std::string& problem) {
    ++records_;
    counts_known_ = false;
    record.parts.emplace_back(kProblemPart, problem);
    return true;
  }

  /// What the writer left out is better known by its name there than by its place in the stream.
  bool take_note(const FrameView& view, std::string& frame, RawRecord& record) {
    try {
      check_frame(view);
      const auto note = parse_message<stream::Dropped>(view.content, kMaxNoteBytes, "a note");
      if (!note.origin().empty()) record.origin = cat(excerpt(note.origin(), kMaxLineBytes), " (", record.origin, ")");
    } catch (const DataError& error) {
      return damaged(record, error.what());
    }
    ++records_;
    ++dropped_;
    record.parts.emplace_back("", std::move(frame));
    return true;
  }

  /// `frame` is moved into the record last, since `view` points into it.
  bool take_episode(const FrameView& view, std::string& frame, RawRecord& record) {
    EpisodeHead head;
    try {
      check_frame(view);  // Here already, for what is counted must not be damaged.
      head = read_episode_head(view.content);
    } catch (const DataError& error) {
      return damaged(record, error.what());
    }
    if (head.id.empty()) head.id = cat("record-", records_);
    ++records_;
    ++episodes_;
    steps_ += head.num_steps;
    record.parts.emplace_back("", std::move(frame));
    record.parts.emplace_back(kIdPart, std::move(head.id));
    return true;
  }

  void check_end(const FrameView& view, const std::string& origin) {
    stream::End end;
    try {
      check_frame(view);
      end = parse_message<stream::End>(view.content, kMaxNoteBytes, "an end");
    } catch (const DataError& error) {
      throw DataError(cat(origin, ": ", error.what()));
    }
    // What a damaged frame was is not known, but that it was one of them.
    const bool agree =
        counts_known_ ? end.num_episodes() == episodes_ && end.num_steps() == steps_ && end.num_dropped() == dropped_
                      : end.num_episodes() + end.num_dropped() == records_ && end.num_steps() >= steps_;
    if (!agree) {
      throw DataError(cat(origin, ": the end counts ", end.num_episodes(), " episodes of ", end.num_steps(),
                          " steps and ", end.num_dropped(), " left out, but ", episodes_, " of ", steps_, " and ",
                          dropped_, " were read", damage(), "; make the stream again"));
    }
    std::string behind;
    if (frames_->next(behind)) throw DataError(cat(origin, ": frames follow behind the end"));
    if (finished_) finished_();
  }

  DataError ended_early() const {
    if (finished_) finished_();
    return DataError(cat(frames_->name(), ": ends after ", episodes_,
                         " episodes without its end; the program that writes it stopped early, see its messages, or "
                         "the file was cut off"));
  }

  std::unique_ptr<FrameReader> frames_;
  std::function<void()> finished_;
  uint64_t records_ = 0, episodes_ = 0, steps_ = 0, dropped_ = 0;
  bool counts_known_ = true;  ///< Whether every frame so far could be counted.
};

std::unique_ptr<FrameReader> frames_of_file(const Path& path) {
  return std::make_unique<FrameReader>(file_input(path), path.string());
}

class StreamFormat : public ForeignFormat {
 public:
  /// A file that can be opened again.
  explicit StreamFormat(const Path& file) : file_(file), unit_{file.filename().string(), 0} {
    std::error_code error;
    unit_.bytes = std::filesystem::file_size(file_, error);
    if (error) unit_.bytes = 0;
    header_ = read_header(*frames_of_file(file_));
  }

  /// A pipe.
  StreamFormat(int descriptor, const std::string& name, std::function<void()> finished)
      : unit_{name, 0},
        frames_(std::make_unique<FrameReader>(descriptor_input(descriptor, name), name)),
        finished_(std::move(finished)) {
    try {
      header_ = read_header(*frames_);
    } catch (const DataError&) {
      if (finished_) finished_();
      throw;
    }
  }

  [[nodiscard]] const DatasetInfo& info() const { return header_.info; }
  [[nodiscard]] const std::vector<TaskSpec>& tasks() const override { return header_.tasks; }
  [[nodiscard]] std::vector<ImportUnit> units() const override { return {unit_}; }
  [[nodiscard]] std::vector<std::string> mapping() const override { return header_.mapping; }

  [[nodiscard]] std::unique_ptr<RecordStream> open(size_t unit) const override {
    GATO_CHECK(unit == 0, "a stream has one unit, not ", unit + 1);
    if (!file_.empty()) {
      auto frames = frames_of_file(file_);
      static_cast<void>(read_header(*frames));
      return std::make_unique<StreamRecords>(std::move(frames), nullptr);
    }
    const std::lock_guard lock(mutex_);
    if (!frames_) throw ConfigError(cat(unit_.name, ": a pipe can be read once only"));
    return std::make_unique<StreamRecords>(std::move(frames_), finished_);
  }

  [[nodiscard]] ParsedRecord parse(const RawRecord& record) const override {
    try {
      return parse_frame(record);
    } catch (const DataError& error) {
      throw DataError(cat(record.origin, ": ", error.what()));
    }
  }

 private:
  [[nodiscard]] ParsedRecord parse_frame(const RawRecord& record) const {
    GATO_CHECK(!record.parts.empty(), "a record of another format");
    const auto& [part, bytes] = record.parts.front();
    if (part == kProblemPart) throw DataError(bytes);
    const FrameView view = view_frame(bytes);  // Its checksum was right.
    ParsedRecord parsed;
    if (view.kind == FrameKind::kDropped) {
      const auto note = parse_message<stream::Dropped>(view.content, kMaxNoteBytes, "a note");
      parsed.dropped = note.reason().empty() ? "left out by the writer" : excerpt(note.reason(), kMaxReasonBytes);
      return parsed;
    }
    ParsedRecord::Part& result = parsed.episodes.emplace_back();
    result.episode = read_stream_episode(view.content, header_.tasks, result.task);
    if (result.episode.id.empty()) result.episode.id = record.parts.back().second;
    check_episode(header_.tasks[static_cast<size_t>(result.task)], result.episode);
    return parsed;
  }

  Path file_;  ///< Empty for a pipe.
  ImportUnit unit_;
  StreamHeader header_;
  mutable std::mutex mutex_;
  mutable std::unique_ptr<FrameReader> frames_;  ///< Of a pipe, until it is opened.
  std::function<void()> finished_;
};

OpenedStream opened(std::unique_ptr<StreamFormat> format) {
  DatasetInfo info = format->info();
  return {std::move(format), std::move(info)};
}

}  // namespace

OpenedStream stream_format(const Path& file) {
  std::error_code error;
  if (file == "-") return stream_format(STDIN_FILENO, "standard input", nullptr);
  if (std::filesystem::is_fifo(file, error)) {
    throw ConfigError(cat(file.string(), ": is a named pipe; give it as standard input: gato-data import stream - < ",
                          file.string()));
  }
  return opened(std::make_unique<StreamFormat>(file));
}

OpenedStream stream_format(int descriptor, const std::string& name, std::function<void()> finished) {
  return opened(std::make_unique<StreamFormat>(descriptor, name, std::move(finished)));
}

}  // namespace gato::episode
