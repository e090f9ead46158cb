#pragma once
#include <map>
#include <string>
#include <vector>

#include "gato/core/file.h"
#include "media.h"

namespace gato::eval {

/// Where a page finds a rollout's pictures: data: URIs, or addresses relative to the page.
struct PlacedMedia {
  std::string still;              ///< PNG of the first frame; "" where there is nothing to see.
  std::string moving;             ///< GIF; "" for a single frame.
  std::string film;               ///< MP4; "" unless ffmpeg made it.
  int64_t width = 0, height = 0;  ///< As shown, in pixels.
};

/// Turns what evaluations recorded into what browsers show. Few pictures are put into the page itself; many become
/// files in `report/media/`, which pages load as they are looked at. Files that are there and newer than what they are
/// made from stay; others that earlier reports left are removed.
class MediaShelf {
 public:
  /// `embed`: all into the page. Films are made when `with_films`, not embedded ever.
  MediaShelf(Path report, bool embed, bool with_films);

  /// Asks for the media of an item of an evaluation's folder of results. Nothing is read yet.
  void ask(const Path& results, const std::string& suite, const MediaItem& item);
  /// Makes all that was asked for, on the thread budget. Pictures that are missing or damaged are left out with a
  /// warning. Throws IoError where files cannot be written.
  void make();
  /// After make().
  [[nodiscard]] const PlacedMedia& of(const Path& results, const MediaItem& item) const;

 private:
  struct Job {
    Path results;
    MediaItem item;
    std::string name;  // of its files, without extension
    PlacedMedia placed;
  };
  void make(Job& job) const;
  [[nodiscard]] bool is_made(const Job& job) const;
  void remove_others() const;

  Path folder_;
  bool embed_, with_films_;
  std::vector<Job> jobs_;
  std::map<std::string, size_t> by_file_;
};

/// Bytes of the pictures that evaluations recorded, of which those that are shown are about as large.
[[nodiscard]] uint64_t bytes_of_media(const Path& results, const std::map<std::string, std::vector<MediaItem>>& media);

}  // namespace gato::eval
