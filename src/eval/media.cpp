#include "media.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/json_fields.h"

namespace gato::eval {
namespace {

constexpr int64_t kMaxSide = 8192;  // of a grid picture: what browsers and readers take without trouble
constexpr int64_t kMaxCount = int64_t{1} << 20;

std::string file_stem(std::string task) {
  std::replace(task.begin(), task.end(), '/', '-');
  return task;
}

void paste(const episode::Image& frame, int64_t row, int64_t column, episode::Image& grid) {
  const auto line = static_cast<int64_t>(frame.width) * 3;
  for (int64_t y = 0; y < frame.height; ++y) {
    const int64_t to = ((row * frame.height + y) * grid.width + column * frame.width) * 3;
    std::copy_n(frame.pixels.begin() + y * line, line, grid.pixels.begin() + to);
  }
}

episode::Image cut(const episode::Image& grid, int64_t row, int64_t column, int64_t height, int64_t width) {
  episode::Image frame{static_cast<int32_t>(height), static_cast<int32_t>(width), {}};
  for (int64_t y = 0; y < height; ++y) {
    const auto from = grid.pixels.begin() + ((row * height + y) * grid.width + column * width) * 3;
    frame.pixels.insert(frame.pixels.end(), from, from + width * 3);
  }
  return frame;
}

bool has_kind(const MediaItem& item, std::string_view kind) { return item.kind.find(kind) != std::string::npos; }

/// Whether a path stays below the folder it is relative to.
bool stays_inside(const Path& path) {
  return path.is_relative() && std::none_of(path.begin(), path.end(), [](const Path& part) { return part == ".."; });
}

Json json_of(const MediaItem& item) {
  Json json = {{"task", item.task}, {"seed", item.seed}, {"kind", item.kind}};
  if (!item.file.empty()) {
    json["file"] = item.file;
    json["frames"] = item.frames;
    json["columns"] = item.columns;
    json["frame_width"] = item.frame_width;
    json["frame_height"] = item.frame_height;
  }
  json["question"] = item.question;
  json["answer"] = item.answer;
  json["reference"] = item.reference;
  json["exact_match"] = item.exact_match;
  json["return"] = item.episode_return;
  json["length"] = item.length;
  if (item.success) json["success"] = *item.success;
  return json;
}

/// Items of the first version had no kind, question, return, length and success.
MediaItem parse_item(const Json& json, const std::string& where) {
  JsonFields fields(json, where);
  MediaItem item;
  item.task = fields.text("task");
  item.seed = fields.unsigned_integer("seed");
  if (fields.has("kind")) item.kind = fields.text("kind");
  if (fields.has("file")) {
    item.file = fields.text("file");
    if (!stays_inside(item.file)) fields.fail("file", "is outside of the folder of results");
    item.frames = fields.integer("frames", 1, kMaxCount);
    item.columns = fields.integer("columns", 1, kMaxCount);
    item.frame_width = fields.integer("frame_width", 1, kMaxCount);
    item.frame_height = fields.integer("frame_height", 1, kMaxCount);
  }
  if (fields.has("question")) item.question = fields.text("question");
  item.answer = fields.text("answer");
  item.reference = fields.text("reference");
  if (!fields.has("kind") && item.reference.empty()) item.kind = "first";
  item.exact_match = fields.boolean("exact_match");
  if (fields.has("return")) item.episode_return = fields.number_or_nan("return");
  if (fields.has("length")) item.length = fields.integer("length", 0);
  if (fields.has("success")) item.success = fields.boolean("success");
  fields.finish();
  return item;
}

/// Of the extremes of several shards those of all.
std::vector<MediaItem> chosen(const std::vector<MediaItem>& items, size_t most_examples) {
  const MediaItem *first = nullptr, *best = nullptr, *worst = nullptr;
  std::vector<MediaItem> shown;
  for (const MediaItem& item : items) {
    if (item.kind.empty() && shown.size() < most_examples) shown.push_back(item);
    if (has_kind(item, "first") && first == nullptr) first = &item;
    if (has_kind(item, "best") && (best == nullptr || item.episode_return > best->episode_return)) best = &item;
    if (has_kind(item, "worst") && (worst == nullptr || item.episode_return < worst->episode_return)) worst = &item;
  }
  for (const auto& [item, kind] : {std::pair{first, "first"}, {best, "best"}, {worst, "worst"}}) {
    if (item == nullptr) continue;
    const auto same = std::find_if(shown.begin(), shown.end(), [&item = item](const MediaItem& other) {
      return !other.kind.empty() && other.seed == item->seed;
    });
    if (same != shown.end()) {
      same->kind += cat(", ", kind);
    } else {
      shown.push_back(*item);
      shown.back().kind = kind;
    }
  }
  return shown;
}

}  // namespace

void write_frames(const Path& results, int64_t shard, int64_t number, const std::vector<episode::Image>& frames,
                  MediaItem& item) {
  GATO_CHECK(!frames.empty() && frames[0].width <= kMaxSide && frames[0].height <= kMaxSide, "frames of ", item.task);
  item.frame_height = frames[0].height;
  item.frame_width = frames[0].width;
  item.columns =
      std::min<int64_t>(static_cast<int64_t>(frames.size()), std::max<int64_t>(1, kMaxSide / item.frame_width));
  const int64_t rows_wanted = (static_cast<int64_t>(frames.size()) + item.columns - 1) / item.columns;
  const int64_t rows = std::min(rows_wanted, std::max<int64_t>(1, kMaxSide / item.frame_height));
  item.frames = std::min<int64_t>(static_cast<int64_t>(frames.size()), rows * item.columns);
  episode::Image grid;
  grid.height = static_cast<int32_t>(rows * item.frame_height);
  grid.width = static_cast<int32_t>(item.columns * item.frame_width);
  grid.pixels.assign(static_cast<size_t>(grid.height) * static_cast<size_t>(grid.width) * 3, 255);
  for (int64_t i = 0; i < item.frames; ++i) {
    const episode::Image& frame = frames[static_cast<size_t>(i)];
    GATO_CHECK(frame.height == item.frame_height && frame.width == item.frame_width, "frames of ", item.task,
               " differ in size");
    paste(frame, i / item.columns, i % item.columns, grid);
  }
  item.file = cat("media/", file_stem(item.task), ".shard-", shard, "-", number, ".png");
  write_file_atomic(results / item.file, episode::encode_png(grid));
}

std::vector<episode::Image> read_frames(const Path& results, const MediaItem& item) {
  if (item.file.empty()) return {};
  const Path path = results / item.file;
  const std::string bytes = read_file(path, uint64_t{64} << 20);
  const episode::Image grid = episode::decode_image(std::as_bytes(std::span(bytes)), path.string());
  const int64_t rows = (item.frames + item.columns - 1) / item.columns;
  if (grid.width != item.columns * item.frame_width || grid.height != rows * item.frame_height) {
    throw DataError(cat(path.string(), ": ", grid.width, " x ", grid.height, " pixels, but ", item.columns, " x ", rows,
                        " frames of ", item.frame_width, " x ", item.frame_height,
                        " are recorded; evaluate again with --again"));
  }
  std::vector<episode::Image> frames;
  for (int64_t i = 0; i < item.frames; ++i) {
    frames.push_back(cut(grid, i / item.columns, i % item.columns, item.frame_height, item.frame_width));
  }
  return frames;
}

void write_media(const Path& results, const std::string& task, int64_t shard, const std::vector<MediaItem>& items) {
  Json json = Json::array();
  for (const MediaItem& item : items) json.push_back(json_of(item));
  // Answers may hold any bytes: those that are no UTF-8 become U+FFFD, as in results.
  const std::string text = json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
  write_file_atomic(results / "media" / cat(file_stem(task), ".shard-", shard, ".json"), text);
}

std::map<std::string, std::vector<MediaItem>> read_media(const Path& results, size_t most_examples) {
  std::vector<Path> files;
  const Path folder = results / "media";
  if (!std::filesystem::is_directory(folder)) return {};
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (entry.path().extension() == ".json" && name.front() != '.') files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  std::map<std::string, std::vector<MediaItem>> tasks;
  for (const Path& path : files) {
    const Json json = parse_json(read_file(path, uint64_t{16} << 20), path.string());
    if (!json.is_array()) throw DataError(cat(path.string(), ": not a list; evaluate again with --again"));
    for (size_t i = 0; i < json.size(); ++i) {
      MediaItem item = parse_item(json[i], cat(path.string(), ": [", i, "]"));
      tasks[item.task].push_back(std::move(item));
    }
  }
  for (auto& [task, items] : tasks) items = chosen(items, most_examples);
  return tasks;
}

}  // namespace gato::eval
