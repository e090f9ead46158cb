#include "episode/import/tfds_folder.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "gato/core/error.h"
#include "gato/core/json.h"
#include "gato/core/text.h"

namespace gato::episode {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxInfoBytes = uint64_t{64} << 20;
constexpr size_t kMaxShards = 1000000;
constexpr int kMaxFolderDepth = 3;
constexpr std::string_view kDefaultTemplate = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}";

/// Reads members of dataset_info.json; a type that does not fit is a DataError.
struct InfoReader {
  const std::string& origin;

  [[noreturn]] void fail(std::string_view key, std::string_view problem) const {
    throw DataError(cat(origin, ": '", key, "' ", problem));
  }
  std::string text(const Json& object, const char* key) const {
    const auto place = object.find(key);
    if (place == object.end()) return "";
    if (!place->is_string()) fail(key, "is not a string");
    return place->get<std::string>();
  }
  const Json& array(const Json& object, const char* key) const {
    static const Json kNone = Json::array();
    const auto place = object.find(key);
    if (place == object.end()) return kNone;
    if (!place->is_array()) fail(key, "is not a list");
    return *place;
  }
  /// A count, which Protocol Buffers' JSON writes as a string.
  int64_t count(const Json& value, std::string_view key) const {
    int64_t number = -1;
    if (value.is_number_unsigned() && value.get<uint64_t>() <= uint64_t{INT64_MAX}) number = value.get<int64_t>();
    if (value.is_string()) {
      const auto& digits = value.get_ref<const std::string&>();
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
      if (error != std::errc{} || end != digits.data() + digits.size()) number = -1;
    }
    if (number < 0) fail(key, "holds something that is not a count");
    return number;
  }
};

TfdsInfo::Split read_split(const InfoReader& reader, const Json& entry) {
  if (!entry.is_object()) reader.fail("splits", "holds something that is not an object");
  TfdsInfo::Split split;
  split.name = reader.text(entry, "name");
  split.filepath_template = reader.text(entry, "filepathTemplate");
  const Json& lengths = reader.array(entry, "shardLengths");
  if (lengths.size() > kMaxShards) reader.fail("shardLengths", cat("has more than ", kMaxShards, " entries"));
  for (const Json& length : lengths) split.shard_lengths.push_back(reader.count(length, "shardLengths"));
  return split;
}

std::string five_digits(size_t number) {
  std::string digits = std::to_string(number);
  return digits.size() >= 5 ? digits : std::string(5 - digits.size(), '0') + digits;
}

void replace_all(std::string& text, std::string_view from, const std::string& to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

/// The name of file `shard` of a split.
std::string shard_name(const TfdsInfo& info, const TfdsInfo::Split& split, size_t shard, const Path& folder) {
  const size_t shards = split.shard_lengths.size();
  std::string name(split.filepath_template.empty() ? kDefaultTemplate : split.filepath_template);
  replace_all(name, "{DATASET}", info.name);
  replace_all(name, "{SPLIT}", split.name);
  replace_all(name, "{FILEFORMAT}", "tfrecord");
  replace_all(name, "{SHARD_X_OF_Y}", cat(five_digits(shard), "-of-", five_digits(shards)));
  replace_all(name, "{SHARD_INDEX}", five_digits(shard));
  replace_all(name, "{NUM_SHARDS}", five_digits(shards));
  // The file comes from elsewhere: it names files beside itself, and nothing else.
  if (name.empty() || name[0] == '.' || name.find_first_of("/{}\\") != std::string::npos ||
      name.find('\0') != std::string::npos) {
    throw DataError(cat((folder / "dataset_info.json").string(), ": filepathTemplate '", split.filepath_template,
                        "' of split '", split.name, "' gives '", name, "', which is no file name"));
  }
  return name;
}

TfdsFile file_at(const Path& path, int64_t records) {
  std::error_code error;
  const uint64_t bytes = fs::file_size(path, error);
  if (error || !fs::is_regular_file(path, error)) {
    throw DataError(cat(path.string(), ": this file of the split is missing (", error ? error.message() : "not a file",
                        "); fetch the data set completely"));
  }
  return {path, bytes, records};
}

/// The parts of "NAME-SPLIT.tfrecord-00001-of-00005" and of "NAME-SPLIT.tfrecord".
struct ShardName {
  std::string dataset, split;
  std::string rest;  ///< "-00001-of-00005"; empty for a single file.
};

std::optional<ShardName> take_apart(const std::string& name) {
  constexpr std::string_view kMark = ".tfrecord";
  const size_t mark = name.find(kMark);
  if (mark == std::string::npos || name[0] == '.') return std::nullopt;
  ShardName parts;
  const size_t dash = name.rfind('-', mark);
  parts.dataset = name.substr(0, std::min(dash, mark));
  if (dash != std::string::npos) parts.split = name.substr(dash + 1, mark - dash - 1);
  parts.rest = name.substr(mark + kMark.size());
  return parts;
}

std::vector<std::string> file_names(const Path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->is_regular_file()) names.push_back(it->path().filename().string());
  }
  if (error) throw IoError(cat(folder.string(), ": the folder cannot be read: ", error.message()), error.value());
  std::sort(names.begin(), names.end());
  return names;
}

/// The number behind "-of-" in "-00001-of-00005", 0 where there is none.
size_t declared_shards(const std::string& rest) {
  const size_t of = rest.find("-of-");
  size_t number = 0;
  if (of != std::string::npos) std::from_chars(rest.data() + of + 4, rest.data() + rest.size(), number);
  return number;
}

/// The files of a split by their names alone.
std::vector<TfdsFile> scan_files(const Path& folder, const std::string& split) {
  std::vector<TfdsFile> files;
  std::set<std::string> splits;
  size_t declared = 0;
  for (const std::string& name : file_names(folder)) {
    const auto parts = take_apart(name);
    if (!parts) continue;
    splits.insert(parts->split);
    if (parts->split != split && !parts->split.empty()) continue;  // A name without a split stands for any.
    files.push_back(file_at(folder / name, -1));
    declared = std::max(declared, declared_shards(parts->rest));
  }
  if (files.empty()) {
    throw ConfigError(cat(
        folder.string(), ": no files NAME-", split, ".tfrecord*; --split can be ",
        splits.empty() ? "nothing: there are no .tfrecord files here" : join({splits.begin(), splits.end()}, ", ")));
  }
  if (declared > files.size()) {
    throw DataError(cat(folder.string(), ": ", files.size(), " of ", declared, " files of split '", split,
                        "' are here; fetch the data set completely"));
  }
  return files;
}

std::vector<TfdsFile> files_of_split(const Path& folder, const TfdsInfo& info, const std::string& name) {
  if (info.splits.empty()) return scan_files(folder, name);
  std::vector<std::string> names;
  for (const TfdsInfo::Split& split : info.splits) {
    names.push_back(split.name);
    if (split.name != name) continue;
    if (split.shard_lengths.empty()) return scan_files(folder, name);
    std::vector<TfdsFile> files;
    for (size_t i = 0; i < split.shard_lengths.size(); ++i) {
      files.push_back(file_at(folder / shard_name(info, split, i, folder), split.shard_lengths[i]));
    }
    return files;
  }
  throw ConfigError(cat(folder.string(), " has no split '", name, "'; --split can be ", join(names, ", "),
                        ", or several of them joined by + (parts of a split: --limit)"));
}

void find_features(const Path& folder, int depth, std::vector<Path>& found) {
  std::error_code error;
  if (fs::exists(folder / "features.json", error)) {
    found.push_back(folder);
    return;
  }
  if (depth == 0) return;
  std::vector<Path> folders;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->is_directory(error) && !it->is_symlink(error)) folders.push_back(it->path());
  }
  std::sort(folders.begin(), folders.end());
  for (const Path& inner : folders) find_features(inner, depth - 1, found);
}

}  // namespace

TfdsInfo parse_tfds_info(std::string_view json, const std::string& origin) {
  const Json root = parse_json(json, origin, {.max_bytes = kMaxInfoBytes, .max_depth = 64});
  const InfoReader reader{origin};
  if (!root.is_object()) throw DataError(cat(origin, ": not a JSON object, so not the description of a data set"));
  TfdsInfo info;
  info.name = reader.text(root, "name");
  info.config = reader.text(root, "configName");
  info.version = reader.text(root, "version");
  info.description = reader.text(root, "description");
  if (const auto place = root.find("redistributionInfo"); place != root.end() && place->is_object()) {
    info.licence = reader.text(*place, "license");
  }
  const std::string format = reader.text(root, "fileFormat");
  if (!format.empty() && format != "tfrecord") {
    throw ConfigError(cat(origin, ": the files are of format '", format,
                          "', only tfrecord is read; write them anew with TFDS: "
                          "builder.download_and_prepare(file_format='tfrecord')"));
  }
  for (const Json& entry : reader.array(root, "splits")) info.splits.push_back(read_split(reader, entry));
  return info;
}

Path find_tfds_folder(const Path& source) {
  std::error_code error;
  if (!fs::is_directory(source, error)) {
    throw ConfigError(cat(source.string(),
                          ": not a folder; give the folder with features.json, such as "
                          "DATASET/1.0.0"));
  }
  std::vector<Path> found;
  find_features(source, kMaxFolderDepth, found);
  if (found.empty()) {
    throw ConfigError(cat(source.string(),
                          ": no features.json here or in folders below; TFDS writes it beside the "
                          "TFRecord files, in DATASET/VERSION or DATASET/CONFIG/VERSION"));
  }
  if (found.size() > 1) {
    std::vector<std::string> names;
    for (size_t i = 0; i < std::min<size_t>(found.size(), 10); ++i) names.push_back(found[i].string());
    throw ConfigError(cat(source.string(), ": several data sets or versions lie below, give one of them: ",
                          join(names, ", "), found.size() > names.size() ? ", ..." : ""));
  }
  return found[0];
}

TfdsInfo load_tfds_info(const Path& folder) {
  const Path path = folder / "dataset_info.json";
  if (fs::exists(path)) {
    TfdsInfo info = parse_tfds_info(read_file(path, kMaxInfoBytes), path.string());
    if (info.name.empty()) throw DataError(cat(path.string(), ": 'name' is missing"));
    return info;
  }
  TfdsInfo info;
  for (const std::string& name : file_names(folder)) {
    if (const auto parts = take_apart(name); parts && info.name.empty()) info.name = parts->dataset;
  }
  return info;
}

std::vector<TfdsFile> find_tfds_files(const Path& folder, const TfdsInfo& info, const std::string& split_names) {
  std::vector<TfdsFile> files;
  std::set<std::string> seen;
  for (const std::string& part : split(split_names, '+')) {
    const std::string name(trim(part));
    if (!seen.insert(name).second) throw ConfigError(cat("--split ", split_names, ": '", name, "' occurs twice"));
    const std::vector<TfdsFile> more = files_of_split(folder, info, name);
    files.insert(files.end(), more.begin(), more.end());
  }
  return files;
}

}  // namespace gato::episode
