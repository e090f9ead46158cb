#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "gato/core/file.h"

/// Where a TFDS data set lies on disk: `DATASET/[CONFIG/]VERSION/` with dataset_info.json, features.json and the
/// TFRecord files of every split.
namespace gato::episode {

/// One TFRecord file.
struct TfdsFile {
  Path path;
  uint64_t bytes = 0;
  int64_t records = -1;  ///< As dataset_info.json says; -1 where it does not.
};

/// What dataset_info.json says. Without that file only the name is known, from the files' names.
struct TfdsInfo {
  std::string name, config, version, description, licence;
  struct Split {
    std::string name;
    std::string filepath_template;       ///< Empty: TFDS's own.
    std::vector<int64_t> shard_lengths;  ///< Records of each file; empty where it does not say.
  };
  std::vector<Split> splits;
};

/// Throws DataError naming `origin` and the key for malformed content, ConfigError for file formats other than
/// TFRecord (with what to do).
[[nodiscard]] TfdsInfo parse_tfds_info(std::string_view json, const std::string& origin);

/// `source`, or the one folder below it (at most three levels) that has a features.json. ConfigError when there is
/// none, or several, which are listed.
[[nodiscard]] Path find_tfds_folder(const Path& source);

/// The content of `folder`/dataset_info.json; where there is no such file, what the names of files say.
[[nodiscard]] TfdsInfo load_tfds_info(const Path& folder);

/// The files of `split` ("train", or several joined by "+"), in the order of their numbers. Throws ConfigError for
/// splits that do not exist (naming those that do), DataError for files that are missing.
[[nodiscard]] std::vector<TfdsFile> find_tfds_files(const Path& folder, const TfdsInfo& info, const std::string& split);

}  // namespace gato::episode
