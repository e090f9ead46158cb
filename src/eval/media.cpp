#include "media.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/json_fields.h"

namespace gato::eval {
namespace {

constexpr int64_t kMaxSide = 8192;  // of a grid picture: what browsers show without trouble

std::string file_stem(std::string task) {
  std::replace(task.begin(), task.end(), '/', '-');
  return task;
}

Path media_index(const Path& results, const std::string& task) {
  return results / "media" / (file_stem(task) + ".json");
}

void paste(const episode::Image& frame, int64_t row, int64_t column, episode::Image& grid) {
  const auto line = static_cast<int64_t>(frame.width) * 3;
  for (int64_t y = 0; y < frame.height; ++y) {
    const int64_t to = ((row * frame.height + y) * grid.width + column * frame.width) * 3;
    std::copy_n(frame.pixels.begin() + y * line, line, grid.pixels.begin() + to);
  }
}

}  // namespace

MediaItem write_frames(const Path& results, const std::string& task, int64_t number,
                       const std::vector<episode::Image>& frames) {
  GATO_CHECK(!frames.empty(), "no frames of ", task);
  MediaItem item;
  item.task = task;
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
    GATO_CHECK(frame.height == item.frame_height && frame.width == item.frame_width, "frames of ", task,
               " differ in size");
    paste(frame, i / item.columns, i % item.columns, grid);
  }
  item.file = cat("media/", file_stem(task), "-", number, ".png");
  write_file_atomic(results / item.file, episode::encode_png(grid));
  return item;
}

void write_media(const Path& results, const std::string& task, const std::vector<MediaItem>& items) {
  Json json = Json::array();
  for (const MediaItem& item : items) {
    json.push_back({{"task", item.task},
                    {"file", item.file},
                    {"frames", item.frames},
                    {"columns", item.columns},
                    {"frame_width", item.frame_width},
                    {"frame_height", item.frame_height},
                    {"seed", item.seed},
                    {"answer", item.answer},
                    {"reference", item.reference},
                    {"exact_match", item.exact_match}});
  }
  write_file_atomic(media_index(results, task), json.dump(1) + "\n");
}

std::vector<MediaItem> read_media(const Path& results, const std::string& task) {
  const Path path = media_index(results, task);
  if (!std::filesystem::exists(path)) return {};
  const Json json = parse_json(read_file(path, uint64_t{16} << 20), path.string());
  if (!json.is_array()) throw DataError(cat(path.string(), ": not a list; evaluate again with --again"));
  std::vector<MediaItem> items;
  for (size_t i = 0; i < json.size(); ++i) {
    JsonFields fields(json[i], cat(path.string(), ": [", i, "]"));
    MediaItem item;
    item.task = fields.text("task");
    item.file = fields.text("file");
    item.frames = fields.integer("frames", 1, 1 << 20);
    item.columns = fields.integer("columns", 1, 1 << 20);
    item.frame_width = fields.integer("frame_width", 1, 1 << 20);
    item.frame_height = fields.integer("frame_height", 1, 1 << 20);
    item.seed = fields.unsigned_integer("seed");
    item.answer = fields.text("answer");
    item.reference = fields.text("reference");
    item.exact_match = fields.boolean("exact_match");
    fields.finish();
    items.push_back(std::move(item));
  }
  return items;
}

}  // namespace gato::eval
