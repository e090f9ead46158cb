#include "report_media.h"

#include <algorithm>
#include <set>

#include "film.h"
#include "gato/core/error.h"
#include "gato/core/log.h"
#include "gato/core/threads.h"
#include "gif.h"
#include "html.h"

namespace gato::eval {
namespace {

constexpr int32_t kSide = 192;  // pixels of the longer side, as shown
constexpr const char* kFolder = "media";

/// Small pictures are enlarged by whole numbers, so that pixels stay square.
int scale_of(const MediaItem& item) {
  return static_cast<int>(std::max<int64_t>(1, kSide / std::max(item.frame_width, item.frame_height)));
}

/// Few frames are shown for longer.
int centiseconds_of(size_t frames) { return frames > 30 ? 8 : frames > 12 ? 14 : 28; }

std::string gif_of(const std::vector<episode::Image>& frames, int scale) {
  return encode_gif(frames, centiseconds_of(frames.size()), scale, 120);
}

std::string key_of(const Path& results, const MediaItem& item) { return (results / item.file).string(); }

}  // namespace

MediaShelf::MediaShelf(Path report, bool embed, bool with_films)
    : folder_(std::move(report) / kFolder), embed_(embed), with_films_(with_films && !embed) {}

void MediaShelf::ask(const Path& results, const std::string& suite, const MediaItem& item) {
  if (!by_file_.try_emplace(key_of(results, item), jobs_.size()).second) return;
  // Of this checkpoint, so that another one's pictures are never taken for them.
  const std::string folder = results.filename().string();  // step-N@SUITE
  const std::string step = folder.substr(0, folder.find('@'));
  const std::string name = slug(cat(suite, ".", step, ".", Path(item.file).stem().string()));
  jobs_.push_back({results, item, name, {}});
}

void MediaShelf::make() {
  parallel_for(static_cast<int64_t>(jobs_.size()), [this](int64_t i) {
    Job& job = jobs_[static_cast<size_t>(i)];
    if (job.item.file.empty()) return;
    try {
      make(job);
    } catch (const DataError& error) {
      log::warning("eval", error.what(), "; it is not in the report");
    }
  });
  remove_others();
}

bool MediaShelf::is_made(const Job& job) const {
  std::error_code error;
  const auto source = std::filesystem::last_write_time(job.results / job.item.file, error);
  const auto is_newer = [&](const std::string& extension) {
    std::error_code missing;
    const auto made = std::filesystem::last_write_time(folder_ / (job.name + extension), missing);
    return !missing && made >= source;
  };
  return !error && is_newer(".png") && (job.item.frames == 1 || is_newer(".gif")) &&
         (job.item.frames == 1 || !with_films_ || is_newer(".mp4"));
}

void MediaShelf::make(Job& job) const {
  if (!std::filesystem::exists(job.results / job.item.file)) {
    throw DataError(cat((job.results / job.item.file).string(), " is missing"));
  }
  const int scale = scale_of(job.item);
  PlacedMedia placed;
  placed.width = job.item.frame_width * scale;
  placed.height = job.item.frame_height * scale;
  const bool moves = job.item.frames > 1;
  if (embed_) {
    const std::vector<episode::Image> frames = read_frames(job.results, job.item);
    placed.still = data_uri("image/png", episode::encode_png(frames.at(0)));
    if (moves) placed.moving = data_uri("image/gif", gif_of(frames, 1));
  } else {
    if (!is_made(job)) {
      const std::vector<episode::Image> frames = read_frames(job.results, job.item);
      write_file_atomic(folder_ / (job.name + ".png"), episode::encode_png(frames.at(0)));
      if (moves) write_file_atomic(folder_ / (job.name + ".gif"), gif_of(frames, 1));
      if (moves && with_films_) {
        write_film(folder_ / (job.name + ".mp4"), frames, 100 / centiseconds_of(frames.size()), scale);
      }
    }
    const std::string address = cat(kFolder, "/", job.name);
    placed.still = address + ".png";
    if (moves) placed.moving = address + ".gif";
    if (moves && std::filesystem::exists(folder_ / (job.name + ".mp4"))) placed.film = address + ".mp4";
  }
  job.placed = std::move(placed);
}

void MediaShelf::remove_others() const {
  std::set<std::string> names;
  for (const Job& job : jobs_) names.insert(job.name);
  std::error_code error;
  if (!std::filesystem::is_directory(folder_, error)) return;
  for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
    const std::string extension = entry.path().extension().string();
    const bool is_ours = extension == ".png" || extension == ".gif" || extension == ".mp4";
    if (is_ours && (embed_ || !names.contains(entry.path().stem().string()))) {
      std::filesystem::remove(entry.path(), error);
    }
  }
}

const PlacedMedia& MediaShelf::of(const Path& results, const MediaItem& item) const {
  static const PlacedMedia kNothing;
  const auto found = by_file_.find(key_of(results, item));
  return item.file.empty() || found == by_file_.end() ? kNothing : jobs_[found->second].placed;
}

uint64_t bytes_of_media(const Path& results, const std::map<std::string, std::vector<MediaItem>>& media) {
  uint64_t bytes = 0;
  for (const auto& [task, items] : media) {
    for (const MediaItem& item : items) {
      std::error_code missing;
      const uintmax_t size = item.file.empty() ? 0 : std::filesystem::file_size(results / item.file, missing);
      if (!missing) bytes += size;
    }
  }
  return bytes;
}

}  // namespace gato::eval
